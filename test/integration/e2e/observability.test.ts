/** What a daemon tells of itself: metrics, health, systemd, the control socket and flannelctl. */
import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { runCommand } from '../../../src/host/command.js';
import type { LeaseAnswer, StatusAnswer } from '../../../src/observe/control-protocol.js';
import { Cluster, type ClusterNode, type Pod } from '../../harness/cluster.js';
import { FLANNELCTL } from '../../harness/daemon.js';
import { NotifySocket } from '../../harness/notify-socket.js';
import { ping } from '../../harness/ping.js';
import { httpGet, type HttpAnswer } from '../../harness/traffic.js';
import { until } from '../../harness/until.js';

describe('a daemon that is watched', () => {
  let cluster: Cluster;
  let node1: ClusterNode, node2: ClusterNode;
  let pod1: Pod, pod2: Pod;
  let systemd: NotifySocket;

  before(async () => {
    cluster = await Cluster.create('observe', { nodes: 2, config: null });
    [node1, node2] = cluster.nodes;
    systemd = await NotifySocket.listen(join(cluster.folder, 'notify'));
    node1.launch(['--healthz-port=8080'], {
      environment: { NOTIFY_SOCKET: systemd.path, FLANNELD_IP_MASQ: 'true', WATCHDOG_USEC: '2000000' },
    });
    await node1.running.saying(/config/i);
  });
  after(async () => {
    await systemd?.close();
    await cluster?.dispose();
  });

  const get = (path: string): Promise<HttpAnswer> => httpGet(node1.namespace, `http://127.0.0.1:8080${path}`);
  const flannelctl = (...args: string[]) =>
    runCommand(FLANNELCTL, [...args, `--socket=${node1.running.controlSocket}`], { allowFailure: true });

  test('before it is ready it is alive but not ready, for the health server, systemd and flannelctl alike', async () => {
    assert.equal((await get('/healthz')).status, 200);
    assert.equal((await get('/readyz')).status, 503);
    assert.equal((await get('/nothing-here')).status, 404);
    assert.ok(systemd.messages.some((message) => message.startsWith('STATUS=')));
    assert.ok(!systemd.messages.some((message) => message.includes('READY=1')));
    const { stdout, status } = await flannelctl('status', '--json');
    assert.equal(status, 0);
    const answer = JSON.parse(stdout) as StatusAnswer;
    assert.equal(answer.state, 'configuration');
    assert.match(answer.reason ?? '', /config/);
  });

  test('once it is ready, it says so to all of them', async () => {
    await cluster.putConfig({ Network: '10.5.0.0/16' });
    await node1.running.ready();
    await node1.addPod();
    await node2.start();
    await node2.addPod();
    [pod1, pod2] = cluster.pods;
    await until('/readyz says 200', async () => (await get('/readyz')).status === 200);
    assert.equal((await get('/healthz')).status, 200);
    await until('systemd is told', () => systemd.messages.some((message) => /^READY=1/.test(message)));
    assert.equal(systemd.messages.filter((message) => message.includes('READY=1')).length, 1);
    assert.match(systemd.messages.find((message) => message.includes('READY=1')) ?? '', /STATUS=.*10\.5\./);
    await until('systemd gets signs of life', () => systemd.messages.filter((one) => one === 'WATCHDOG=1').length >= 2);
  });

  /** A metric's value; `undefined` when there is no such line. */
  async function metric(line: string): Promise<number | undefined> {
    const { body = '' } = await get('/metrics');
    const found = body.split('\n').find((candidate) => candidate.startsWith(`${line} `));
    return found === undefined ? undefined : Number(found.slice(line.length + 1));
  }

  test('metrics are in Prometheus’ format, with every name and label', async () => {
    await until('the leases of both nodes are counted', async () => (await metric('flannel_leases')) === 2);
    const { body = '', type } = await get('/metrics');
    assert.match(type ?? '', /^text\/plain; version=0\.0\.4/);
    for (const name of [
      'flannel_packets_total{direction="encap"}',
      'flannel_packets_total{direction="decap"}',
      'flannel_bytes_total{direction="encap"}',
      'flannel_bytes_total{direction="decap"}',
      'flannel_queue_dropped_packets_total{queue="device"}',
      'flannel_queue_dropped_packets_total{queue="socket"}',
      'flannel_leases',
      'flannel_lease_expiry_timestamp_seconds',
      'flannel_store_watch_restarts_total',
      'process_cpu_seconds_total',
      'process_resident_memory_bytes',
      'process_open_fds',
    ]) {
      assert.ok(
        body.split('\n').some((line) => line.startsWith(`${name} `)),
        `${name} is missing in:\n${body}`,
      );
    }
    assert.match(body, /^flannel_build_info\{version="[^"]+"\} 1$/m);
    assert.match(body, /^flannel_store_requests_total\{operation="[^"]+",result="[^"]+"\} \d+$/m);
    for (const name of ['flannel_packets_total', 'flannel_bytes_total', 'flannel_dropped_packets_total']) {
      assert.match(body, new RegExp(`^# TYPE ${name} counter$`, 'm'));
    }
    const expiry = (await metric('flannel_lease_expiry_timestamp_seconds')) as number;
    assert.ok(Math.abs(expiry - Date.now() / 1000 - 86_400) < 600, `the lease ends at ${expiry}`);
  });

  test('counters move by what passes, and the same is told by status and metrics', async () => {
    await until('pods reach each other', async () => {
      return (await ping(pod1.namespace, pod2.address, { count: 1, waitSeconds: 1 })).received === 1;
    });
    const read = () =>
      Promise.all(
        ['encap', 'decap'].flatMap((direction) => [
          metric(`flannel_packets_total{direction="${direction}"}`),
          metric(`flannel_bytes_total{direction="${direction}"}`),
        ]),
      ) as Promise<number[]>;
    const before = await read();
    await ping(pod1.namespace, pod2.address, { count: 10, payloadBytes: 472 });
    const after = await read();
    const moved = after.map((value, index) => value - before[index]);
    // Neighbour discovery and the like of other protocols is not forwarded, so these are the pings alone.
    assert.deepEqual(moved, [10, 5000, 10, 5000]);
    const { backend } = await node1.running.status();
    assert.deepEqual(
      [backend?.encap.packets, backend?.encap.bytes, backend?.decap.packets, backend?.decap.bytes],
      after,
    );
  });

  test('drops are counted under their reason', async () => {
    const name = 'flannel_dropped_packets_total{direction="encap",reason="no-lease"}';
    const before = (await metric(name)) ?? 0;
    await ping(pod1.namespace, '10.5.0.9', { count: 3, waitSeconds: 0.2 });
    assert.equal(await metric(name), before + 3);
  });

  test('flannelctl status and leases tell people and machines the same', async () => {
    const { stdout } = await flannelctl('status', '--json');
    const status = JSON.parse(stdout) as StatusAnswer;
    assert.equal(status.state, 'ready');
    assert.equal(status.pid, node1.running.pid);
    assert.equal(status.publicIP, node1.address);
    assert.deepEqual(status.interface, { name: 'eth0', address: node1.address, mtu: 1500 });
    assert.equal(status.backend?.table.leases, 1, 'there is one other node to forward to');
    assert.equal(status.store.healthy, true);
    assert.equal(status.lease?.subnet, node1.running.subnetEnv.FLANNEL_SUBNET.replace('.1/', '.0/'));
    const forPeople = await flannelctl('status');
    assert.match(forPeople.stdout, new RegExp(status.lease?.subnet ?? 'none'));
    assert.ok(!forPeople.stdout.includes('\u001b'), 'no colours where there is no terminal');
    const leases = JSON.parse((await flannelctl('leases', '--json')).stdout) as LeaseAnswer[];
    assert.deepEqual(leases.map(({ publicIP, reserved, own }) => [publicIP, reserved, own]).sort(), [
      [node1.address, false, true],
      [node2.address, false, false],
    ]);
    for (const lease of leases) assert.match(lease.subnet, /^10\.5\.\d+\.0\/24$/);
    assert.match(leases.find(({ own }) => own)?.expires ?? '', /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  });

  test('flannelctl without a daemon says in one line which socket it tried', async () => {
    for (const command of ['status', 'leases']) {
      const { status, stdout, stderr } = await runCommand(FLANNELCTL, [command, '--socket=/nowhere/flanneld.sock'], {
        allowFailure: true,
      });
      assert.notEqual(status, 0);
      assert.equal(stdout, '');
      assert.equal(stderr.trim().split('\n').length, 1, stderr);
      assert.match(stderr, /\/nowhere\/flanneld\.sock/);
    }
  });

  test('the control socket is for its owner only', () => {
    assert.equal(statSync(node1.running.controlSocket).mode & 0o777, 0o600);
  });

  test('a subnet that flannelctl reserves goes to the node it is for', async () => {
    await node2.running.stop();
    await cluster.etcd.delete(`/coreos.com/network/subnets/${pod2.address.replace(/\d+$/, '0-24')}`);
    const endpoints = `--etcd-endpoints=${cluster.endpoint}`;
    const inside = (...args: string[]) => node1.namespace.exec(FLANNELCTL, args, { allowFailure: true });
    // Beyond the first 100 free subnets, of which every node was given one.
    const reserved = await inside('leases', 'reserve', '10.5.238.0/24', '--for', node2.address, endpoints);
    assert.equal(reserved.status, 0, reserved.stderr);
    const twice = await inside('leases', 'reserve', '10.5.238.0/24', '--for', '192.168.64.99', endpoints);
    assert.notEqual(twice.status, 0);
    await node2.start();
    assert.equal(node2.running.subnetEnv.FLANNEL_SUBNET, '10.5.238.1/24');
    await until('node1 knows it as a reservation', async () => {
      const leases = await node1.running.ask('/v1/leases');
      return leases.some(({ subnet, reserved: fixed }) => subnet === '10.5.238.0/24' && fixed);
    });
  });

  test('flannelctl docker-opts gives Docker the subnet and the MTU', async () => {
    const written = join(cluster.folder, 'docker_opts.env');
    await runCommand(FLANNELCTL, ['docker-opts', '-f', node1.running.subnetFile, '-d', written, '-c']);
    const { FLANNEL_SUBNET: subnet } = node1.running.subnetEnv;
    // This node masquerades itself, so that Docker must not.
    assert.equal(readFileSync(written, 'utf8'), `DOCKER_OPTS=" --bip=${subnet} --ip-masq=false --mtu=1472"\n`);
  });

  test('the stop is told to systemd', async () => {
    await node1.running.stop();
    assert.ok(systemd.messages.some((message) => message.includes('STOPPING=1')));
  });
});
