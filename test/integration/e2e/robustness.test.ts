/** Trouble that passes: what is sent meanwhile may be lost, but the daemon goes on, and so does the traffic after it. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster, PREFIX, type ClusterNode, type Pod } from '../../harness/cluster.js';
import { ping, SteadyPing } from '../../harness/ping.js';
import { httpGet } from '../../harness/traffic.js';
import { until } from '../../harness/until.js';

describe('a daemon in trouble', () => {
  let cluster: Cluster;
  let node1: ClusterNode, node2: ClusterNode;
  let pod1: Pod, pod2: Pod;

  before(async () => {
    cluster = await Cluster.create('robust', { nodes: 2 });
    await cluster.startAll(['--healthz-port=8080']);
    [node1, node2] = cluster.nodes;
    [pod1, pod2] = cluster.pods;
    await untilConnected();
  });
  after(() => cluster?.dispose());

  async function untilConnected(): Promise<void> {
    await until(
      'the pods reach each other',
      async () => {
        const { received } = await ping(pod1.namespace, pod2.address, { count: 1, waitSeconds: 1 });
        return received === 1;
      },
      { evidence: () => node1.running.evidence },
    );
    assert.equal((await ping(pod2.namespace, pod1.address)).received, 3);
  }

  /** Neither daemon has been restarted or has ended. */
  async function assertUnharmed(): Promise<void> {
    for (const node of cluster.nodes) {
      assert.ok(node.running.running, node.running.evidence);
      await until('it is ready', async () => (await node.running.status()).state === 'ready', {
        evidence: () => node.running.evidence,
      });
      assert.doesNotMatch(node.running.output, /\n\s+at /);
    }
  }

  test('it survives its interface going down and up', async () => {
    await node1.namespace.ip('link set eth0 down');
    await ping(pod1.namespace, pod2.address, { count: 3, waitSeconds: 0.3 });
    await node1.namespace.ip('link set eth0 up');
    await node1.namespace.addRoute('default', 'via 192.168.64.1');
    await untilConnected();
    await assertUnharmed();
  });

  test('it survives its address being taken away and given back', async () => {
    await node1.namespace.ip(`address del ${node1.address}/24 dev eth0`);
    await ping(pod1.namespace, pod2.address, { count: 3, waitSeconds: 0.3 });
    await node1.namespace.addAddress('eth0', `${node1.address}/24`);
    await node1.namespace.addRoute('default', 'via 192.168.64.1');
    await untilConnected();
    await assertUnharmed();
  });

  test('a firewall that forbids its datagrams is counted and survived', async () => {
    const rule = 'OUTPUT -p udp --dport 8285 -j DROP'.split(' ');
    const before = await node1.running.drops('encap', 'send-failed');
    await node1.namespace.exec('iptables', ['-I', ...rule]);
    let dropped: number;
    try {
      await ping(pod1.namespace, pod2.address, { count: 5, waitSeconds: 0.3 });
      dropped = await node1.running.drops('encap', 'send-failed');
    } finally {
      await node1.namespace.exec('iptables', ['-D', ...rule]);
    }
    assert.equal(dropped, before + 5);
    await untilConnected();
    await assertUnharmed();
  });

  test('a peer that is gone, or whose port is closed, harms no other traffic', async () => {
    await cluster.putLease('10.5.250.0/24', '192.168.64.250');
    await cluster.putLease('10.5.251.0/24', '192.168.64.66');
    try {
      await until('node1 knows them', async () => (await node1.running.ask('/v1/leases')).length === 4);
      const steady = await SteadyPing.start(pod1.namespace, pod2.address);
      await Promise.all([
        ping(pod1.namespace, '10.5.250.1', { count: 20, waitSeconds: 0.3 }),
        ping(pod1.namespace, '10.5.251.1', { count: 20, waitSeconds: 0.3 }),
      ]);
      const { sent, received } = await steady.stop();
      assert.equal(received, sent);
    } finally {
      await cluster.etcd.delete(`${PREFIX}/subnets/10.5.250.0-24`);
      await cluster.etcd.delete(`${PREFIX}/subnets/10.5.251.0-24`);
    }
    await assertUnharmed();
  });

  for (const [what, damage, complaint] of [
    ['its route to the Network', 'route delete 10.5.0.0/16 dev flannel0', 'it had lost the route to 10\\.5\\.0\\.0/16'],
    ['its address', 'address flush dev flannel0', 'it had lost its address 10\\.5\\.[0-9]+\\.0'],
    ['its MTU', 'link set flannel0 mtu 1300', 'its MTU was 1300'],
    // Together with the route, which the kernel takes away.
    ['its being up', 'link set flannel0 down', 'it was set down'],
  ]) {
    test(`flannel0 gets back ${what}, and one line says so`, async () => {
      const shown = async () =>
        (await node1.namespace.ip('-o address show dev flannel0')) +
        (await node1.namespace.ip('-o link show dev flannel0')) +
        (await node1.namespace.ip('route show 10.5.0.0/16'));
      const before = await shown();
      const saidBefore = node1.running.output.length;
      await node1.namespace.ip(damage);
      assert.notEqual(await shown(), before);
      await until('flannel0 is as it was', async () => (await shown()) === before, {
        evidence: () => node1.running.evidence,
      });
      const line = new RegExp(`somebody changed flannel0: ${complaint}; put back`);
      const said = () => node1.running.output.slice(saidBefore);
      await until('it is said', () => line.test(said()), { evidence: () => node1.running.evidence });
      await untilConnected();
      assert.equal(said().match(/flannel0/g)?.length, 1, said());
      await assertUnharmed();
    });
  }

  test('flannel0 is made again when somebody deletes it', async () => {
    await node1.namespace.ip('link delete flannel0');
    await untilConnected();
    await until('node1 is ready again', async () => (await node1.running.status()).reason === undefined);
    await assertUnharmed();
    assert.match(node1.running.output, /packets do not flow: .*deleted/);
  });

  for (const how of ['killed and started again', 'frozen for a while'] as const) {
    test(`while etcd is ${how}, traffic loses nothing, and leases are followed again after it`, async () => {
      const steady = [
        await SteadyPing.start(pod1.namespace, pod2.address),
        await SteadyPing.start(pod2.namespace, pod1.address),
      ];
      if (how === 'frozen for a while') {
        cluster.etcd.pause();
        await sleep(2_000);
        cluster.etcd.resume();
      } else {
        await cluster.etcd.kill();
        await sleep(1_500);
        await cluster.etcd.restart();
      }
      await cluster.putLease('10.5.240.0/24', '192.168.64.240');
      await until(
        'a lease that is new since then is known',
        async () => (await node1.running.ask('/v1/leases')).some(({ subnet }) => subnet === '10.5.240.0/24'),
        { evidence: () => node1.running.evidence },
      );
      for (const one of steady) {
        const { sent, received } = await one.stop();
        assert.equal(received, sent);
      }
      await cluster.etcd.delete(`${PREFIX}/subnets/10.5.240.0-24`);
      await until('its removal is known', async () => (await node1.running.ask('/v1/leases')).length === 2);
      await until('the store is called healthy', async () => (await node1.running.status()).store.healthy);
      await assertUnharmed();
    });
  }

  test('a lease that is removed while etcd cannot be reached from the node is forgotten when it is back', async () => {
    const rule = 'OUTPUT -p tcp --dport 2379 -j REJECT --reject-with tcp-reset'.split(' ');
    await cluster.putLease('10.5.241.0/24', '192.168.64.241');
    await until('it is known', async () => (await node1.running.ask('/v1/leases')).length === 3);
    await node1.namespace.exec('iptables', ['-I', ...rule]);
    try {
      await until('the daemon notices', async () => {
        // A connection that carries nothing does not know that it is cut: the daemon's own traffic tells it.
        await cluster.putLease('10.5.242.0/24', '192.168.64.242');
        return !(await node1.running.status()).store.healthy;
      });
      assert.equal((await ping(pod1.namespace, pod2.address)).received, 3);
    } finally {
      await cluster.etcd.delete(`${PREFIX}/subnets/10.5.241.0-24`);
      await cluster.etcd.delete(`${PREFIX}/subnets/10.5.242.0-24`);
      // What happened meanwhile cannot be replayed either.
      const { header } = await cluster.etcd.call('/v3/kv/range', { key: Buffer.from('x').toString('base64') });
      await cluster.etcd.call('/v3/kv/compaction', { revision: (header as { revision: string }).revision });
      await node1.namespace.exec('iptables', ['-D', ...rule]);
    }
    await until('it is forgotten', async () => (await node1.running.ask('/v1/leases')).length === 2, {
      evidence: () => node1.running.evidence,
    });
    assert.match((await ping(pod1.namespace, '10.5.241.9', { count: 1 })).output, /Destination Net Unreachable/);
  });

  test('what is no lease under subnets/ is skipped, logged once and counted', async () => {
    const garbage: Record<string, string> = {
      'not-a-subnet': '{"PublicIP":"192.168.64.90"}',
      '10.5.231.0-24': 'not JSON',
      '10.5.232.0-24': '{"PublicIP":"here"}',
      '10.5.233.0-24': 'null',
      '10.5.234.0-24':
        '{"PublicIP":"192.168.64.94","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}',
      '10.5.235.1-24/deeper': '{"PublicIP":"192.168.64.95"}',
    };
    for (const [key, value] of Object.entries(garbage)) await cluster.etcd.put(`${PREFIX}/subnets/${key}`, value);
    await cluster.putLease('10.5.239.0/24', '192.168.64.239');
    try {
      await until('the lease that came after them is known', async () =>
        (await node1.running.ask('/v1/leases')).some(({ subnet }) => subnet === '10.5.239.0/24'),
      );
      const { store } = await node1.running.status();
      assert.equal(store.skippedEntries, Object.keys(garbage).length);
      for (const key of Object.keys(garbage)) {
        assert.equal(node1.running.said(new RegExp(`subnets/${key}`)).length, 1, `${key}\n${node1.running.evidence}`);
      }
      assert.equal((await node1.running.ask('/v1/leases')).length, 3);
      assert.match((await httpGet(node1.namespace, 'http://127.0.0.1:8080/metrics')).body ?? '', /^flannel_leases 3$/m);
      // A daemon that starts while they are there does the same.
      await node2.running.stop();
      await node2.start(['--healthz-port=8080']);
      assert.equal((await node2.running.status()).store.skippedEntries, Object.keys(garbage).length);
      await untilConnected();
    } finally {
      for (const key of [...Object.keys(garbage), '10.5.239.0-24']) {
        await cluster.etcd.delete(`${PREFIX}/subnets/${key}`);
      }
    }
    await assertUnharmed();
  });

  test('leases of another length than SubnetLen are reached, and of two that overlap the longer one', async () => {
    // A node of an older configuration holds a /20; node2 has a /24 that may lie in it or not.
    await cluster.putLease('10.5.240.0/20', '192.168.64.66');
    await cluster.putLease('10.5.245.0/24', node2.address);
    try {
      await until('node1 knows them', async () => (await node1.running.ask('/v1/leases')).length === 4);
      const before = await node2.running.drops('decap', 'foreign-destination');
      await ping(pod1.namespace, '10.5.245.9', { count: 4, waitSeconds: 0.2 });
      assert.equal(await node2.running.drops('decap', 'foreign-destination'), before + 4);
      await ping(pod1.namespace, '10.5.246.9', { count: 4, waitSeconds: 0.2 });
      assert.equal(await node2.running.drops('decap', 'foreign-destination'), before + 4);
      assert.equal(
        node1.running.said(/10\.5\.240\.0\/20.*10\.5\.245\.0\/24|10\.5\.245\.0\/24.*10\.5\.240\.0\/20/).length,
        1,
      );
    } finally {
      await cluster.etcd.delete(`${PREFIX}/subnets/10.5.240.0-20`);
      await cluster.etcd.delete(`${PREFIX}/subnets/10.5.245.0-24`);
    }
  });

  test('a lease that is deleted under its owner is taken back, and traffic goes on meanwhile', async () => {
    const key = `${PREFIX}/subnets/${pod1.address.replace(/\d+$/, '0-24')}`;
    const subnet = node1.running.subnetEnv.FLANNEL_SUBNET;
    await cluster.etcd.delete(key);
    await until('the key is back', async () => (await cluster.etcd.get(key)) !== undefined, {
      evidence: () => node1.running.evidence,
    });
    assert.equal(await cluster.etcd.get(key), `{"PublicIP":"${node1.address}","PublicIPv6":null}`);
    assert.equal(node1.running.subnetEnv.FLANNEL_SUBNET, subnet);
    await untilConnected();
    await assertUnharmed();
  });
});
