/** What a restart of the daemon keeps: the subnet, the lease, the traffic, the files. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Cluster, PREFIX, type ClusterNode } from '../../harness/cluster.js';
import { ping } from '../../harness/ping.js';
import { until } from '../../harness/until.js';

describe('a restart', () => {
  let cluster: Cluster;
  let node1: ClusterNode;
  let node2: ClusterNode;

  before(async () => {
    cluster = await Cluster.create('restart', { nodes: 2 });
    await cluster.startAll();
    [node1, node2] = cluster.nodes;
    await untilBothWays();
  });
  after(() => cluster?.dispose());

  /** Both pods reach each other, which they may only do a moment after a start. */
  async function untilBothWays(): Promise<void> {
    const [pod1] = node1.pods;
    const [pod2] = node2.pods;
    await until('the pods reach each other', async () => {
      const { received } = await ping(pod1.namespace, pod2.address, { count: 1, waitSeconds: 1 });
      return received === 1;
    });
    assert.equal((await ping(pod2.namespace, pod1.address)).received, 3);
  }

  /** A second is the aim. What waits for an etcd that does not answer takes five, what a busy machine adds is less. */
  function assertSoon(afterMs: number): void {
    assert.ok(afterMs < 4_500, `it took ${Math.round(afterMs)} ms`);
  }

  const subnetOf = (node: ClusterNode): string => node.running.subnetEnv.FLANNEL_SUBNET;
  const leaseOf = async (node: ClusterNode) =>
    (await cluster.storedLeases()).filter(({ value }) => value.includes(`"${node.address}"`));

  test('subnet.env holds the four variables, byte for byte as flannel writes them, readable by all', async () => {
    const lease = (await leaseOf(node1))[0];
    const subnet = /subnets\/(\d+\.\d+\.\d+\.)0-24$/.exec(lease.key)?.[1];
    assert.equal(
      readFileSync(node1.running.subnetFile, 'utf8'),
      `FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=${subnet}1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n`,
    );
    assert.equal(statSync(node1.running.subnetFile).mode & 0o777, 0o644);
  });

  test('the lease in etcd is written as flannel writes it, under a lease of a day', async () => {
    const [lease, ...others] = await leaseOf(node1);
    assert.deepEqual(others, []);
    assert.equal(lease.value, '{"PublicIP":"192.168.64.11","PublicIPv6":null}');
    const { TTL, grantedTTL } = await cluster.etcd.call('/v3/kv/lease/timetolive', { ID: lease.lease });
    assert.equal(grantedTTL, '86400');
    assert.ok(Number(TTL) > 86_000);
  });

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    test(`${signal} ends the daemon with 0 at once; its lease stays, and it gets the same subnet again`, async () => {
      const before = await leaseOf(node1);
      const { status, afterMs } = await node1.running.stop(signal);
      assert.equal(status, 0, node1.running.evidence);
      assertSoon(afterMs);
      assert.deepEqual(await leaseOf(node1), before);
      assert.doesNotMatch(node1.running.output, /\n\s+at /);
      const subnet = subnetOf(node1);
      await node1.start();
      assert.equal(subnetOf(node1), subnet);
      await untilBothWays();
    });
  }

  test('kill -9 and a start give the same subnet, and the pods that were there reach the others again', async () => {
    const subnet = subnetOf(node1);
    assert.equal((await node1.running.kill()).signal, 'SIGKILL');
    await node1.start();
    assert.equal(subnetOf(node1), subnet);
    await untilBothWays();
    assert.equal((await leaseOf(node1)).length, 1);
  });

  test('a stop while etcd does not answer takes no longer', async () => {
    cluster.etcd.pause();
    try {
      const { status, afterMs } = await node1.running.stop();
      assert.equal(status, 0, node1.running.evidence);
      assertSoon(afterMs);
    } finally {
      cluster.etcd.resume();
    }
    await node1.start();
    await untilBothWays();
  });

  test('a start while etcd does not answer forwards as the last run knew the network, unready until etcd is back', async () => {
    const subnet = subnetOf(node1);
    await node1.running.stop();
    cluster.etcd.pause();
    try {
      const daemon = node1.launch();
      await untilBothWays();
      const { state, lease, backend } = await daemon.status();
      assert.deepEqual([state, lease?.subnet], ['configuration', subnet.replace('.1/24', '.0/24')]);
      assert.equal(backend?.table.leases, 1);
    } finally {
      cluster.etcd.resume();
    }
    await node1.running.ready();
    assert.equal(node1.running.said(/packets flow/).length, 1, 'the backend goes on');
    await untilBothWays();
  });

  test('a snapshot that makes no sense is told once, and the start waits for etcd', async () => {
    await node1.running.stop();
    writeFileSync(`${node1.running.subnetFile}.snapshot`, 'flannelette-snapshot 99\nnonsense');
    const daemon = await node1.start();
    assert.equal(daemon.said(/snapshot .* is not used: .*99/).length, 1, daemon.evidence);
    assert.doesNotMatch(daemon.output, /going on as the last run/);
    await untilBothWays();
  });

  test('a stop during start-up ends it with 0 as well', async () => {
    await node2.running.stop();
    const early = node2.launch([`--etcd-prefix=/absent`]);
    await early.saying(/config/i);
    const { status, afterMs } = await early.stop();
    assert.equal(status, 0, early.evidence);
    assertSoon(afterMs);
    await node2.start();
    await untilBothWays();
  });

  test('without its subnet.env a node finds its subnet by its lease', async () => {
    const subnet = subnetOf(node1);
    await node1.running.stop();
    rmSync(node1.running.subnetFile);
    await node1.start();
    assert.equal(subnetOf(node1), subnet);
  });

  test('without its lease a node takes the subnet of its subnet.env again', async () => {
    const subnet = subnetOf(node1);
    await node1.running.stop();
    await cluster.etcd.delete((await leaseOf(node1))[0].key);
    await node1.start();
    assert.equal(subnetOf(node1), subnet);
    assert.equal((await leaseOf(node1)).length, 1);
    await untilBothWays();
  });

  test('a subnet.env that makes no sense hinders nothing', async () => {
    const subnet = subnetOf(node1);
    await node1.running.stop();
    writeFileSync(node1.running.subnetFile, 'FLANNEL_SUBNET=nonsense\n\0\xff');
    await node1.start();
    assert.equal(subnetOf(node1), subnet);
  });

  test('a reservation stays a reservation when its owner comes back', async () => {
    await node1.running.stop();
    const [lease] = await leaseOf(node1);
    await cluster.etcd.put(lease.key, lease.value);
    assert.equal((await leaseOf(node1))[0].lease, '0');
    const subnet = subnetOf(node1);
    await node1.start();
    assert.equal(subnetOf(node1), subnet);
    assert.deepEqual(await leaseOf(node1), [{ ...lease, lease: '0' }]);
    const own = (await node1.running.ask('/v1/leases')).find((candidate) => candidate.own);
    assert.deepEqual([own?.reserved, own?.expires], [true, null]);
    await untilBothWays();
  });

  test('a lease that no longer fits the configuration is given up for one that does', async () => {
    await cluster.stopAll();
    await cluster.putConfig({ Network: '10.6.0.0/16' });
    try {
      await Promise.all([node1.start(), node2.start()]);
      assert.match(subnetOf(node1), /^10\.6\./);
      const keys = (await leaseOf(node1)).map(({ key }) => key);
      assert.equal(keys.length, 1);
      assert.ok(keys[0].startsWith(`${PREFIX}/subnets/10.6.`));
      const routes = await node1.namespace.ip('route show');
      assert.doesNotMatch(routes, /^10\.5\.0\.0\/16/m);
      assert.match(routes, /^10\.6\.0\.0\/16 dev flannel0/m);
    } finally {
      await cluster.stopAll();
      await cluster.putConfig({ Network: '10.5.0.0/16' });
      await Promise.all([node1.start(), node2.start()]);
    }
  });

  test('the folder of subnet.env is made when it is missing', async () => {
    await node1.running.stop();
    const deep = join(node1.folder, 'run/flannel/subnet.env');
    await node1.start([`--subnet-file=${deep}`]);
    assert.equal(statSync(deep).mode & 0o777, 0o644);
  });

  test('the control socket of a living daemon is left to it: the second one says its pid and ends', async () => {
    await node1.running.stop();
    const first = await node1.start();
    const second = node2.launch([
      `--control-socket=${first.controlSocket}`,
      `--subnet-file=${join(node2.folder, 'second.env')}`,
      '--etcd-prefix=/second',
    ]);
    const { status } = await second.ended();
    assert.notEqual(status, 0);
    assert.ok(status !== null, second.evidence);
    assert.equal(second.said(new RegExp(`\\b${first.pid}\\b`)).length, 1, second.evidence);
    assert.doesNotMatch(second.output, /\n\s+at /);
    assert.equal((await first.status()).pid, first.pid);
  });

  test('the control socket that a killed daemon left is replaced, and a stopped one leaves none', async () => {
    const { controlSocket } = node1.running;
    await node1.running.kill();
    assert.ok(existsSync(controlSocket), 'a killed daemon leaves its socket');
    const daemon = await node1.start();
    assert.equal((await daemon.status()).pid, daemon.pid);
    assert.equal(statSync(controlSocket).mode & 0o777, 0o600);
    await daemon.stop();
    assert.ok(!existsSync(controlSocket));
  });
});
