/** Beside a real flanneld: one node of flannel's, two of ours, one network. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { Cluster, OUTSIDE_ADDRESS, type ClusterNode } from '../harness/cluster.js';
import { Daemon } from '../harness/daemon.js';
import { findFlannel } from '../harness/flannel-peer.js';
import { ping } from '../harness/ping.js';
import { echoDatagrams, sendTcp, withTcpServer, withUdpListener } from '../harness/traffic.js';
import { until } from '../harness/until.js';

const peer = await findFlannel();
const skip = peer.program === undefined ? peer.why : false;

describe('beside a real flannel', { skip }, () => {
  const program = peer.program as string;
  let cluster: Cluster;
  let theirs: ClusterNode, ours: ClusterNode, third: ClusterNode;
  const FLAGS = ['--ip-masq'];

  before(async () => {
    cluster = await Cluster.create('interop', { nodes: 3 });
    [theirs, ours, third] = cluster.nodes;
    await Promise.all([theirs.start(FLAGS, { program }), ours.start(FLAGS), third.start(FLAGS)]);
    for (const node of cluster.nodes) for (let pod = 0; pod < 2; pod++) await node.addPod();
    await untilConnected();
  });
  after(() => cluster?.dispose());

  async function untilConnected(): Promise<void> {
    for (const from of cluster.nodes) {
      for (const to of cluster.nodes) {
        await until(`${from.name} reaches ${to.name}`, async () => {
          const { received } = await ping(from.pods[0].namespace, to.pods[0].address, { count: 1, waitSeconds: 1 });
          return received === 1;
        });
      }
    }
  }

  async function assertAllReachAll(): Promise<void> {
    const losses: string[] = [];
    for (const from of cluster.pods) {
      await Promise.all(
        cluster.pods.map(async (to) => {
          const { sent, received } = await ping(from.namespace, to.address);
          if (sent !== 3 || received !== sent) losses.push(`${from.name} to ${to.name}: ${received} of ${sent}`);
        }),
      );
    }
    assert.deepEqual(losses, []);
  }

  const leaseOf = async (node: ClusterNode) =>
    (await cluster.storedLeases()).filter(({ value }) => value.includes(`"${node.address}"`));
  const subnetOf = (node: ClusterNode): string => node.running.subnetEnv.FLANNEL_SUBNET;

  test('all pods reach all pods without loss', () => assertAllReachAll());

  test('packets of every size pass both ways, in fragments where they must', async () => {
    for (const [from, to] of [
      [theirs, ours],
      [ours, theirs],
    ]) {
      await withUdpListener(
        to.pods[0].namespace,
        5002,
        async () => {
          const sizes = [0, 1, 1400, 1444, 1445, 9000];
          assert.deepEqual(await echoDatagrams(from.pods[0].namespace, to.pods[0].address, 5002, sizes), sizes);
        },
        true,
      );
    }
  });

  test('TCP arrives whole both ways', async () => {
    for (const [from, to] of [
      [theirs, ours],
      [ours, theirs],
    ]) {
      await withTcpServer(to.pods[0].namespace, 5000, async () => {
        const { sent, received } = await sendTcp(from.pods[0].namespace, to.pods[0].address, 5000, 8 * 1024 * 1024);
        assert.ok(sent !== undefined && sent === received);
      });
    }
  });

  test('what both write into etcd is the same, byte for byte, but for the address', async () => {
    const leases = await Promise.all([theirs, ours].map(leaseOf));
    const [[their], [our]] = leases;
    assert.equal(our.value.replace(ours.address, 'X'), their.value.replace(theirs.address, 'X'));
    const form = /^\/coreos\.com\/network\/subnets\/10\.5\.\d+\.0-24$/;
    for (const { key, lease } of [their, our]) {
      assert.match(key, form);
      assert.notEqual(lease, '0');
    }
  });

  test('both write the same subnet.env, but for the subnet', () => {
    const [their, our] = [theirs, ours].map((node) =>
      readFileSync(node.running.subnetFile, 'utf8').replace(/(?<=FLANNEL_SUBNET=10\.5\.)\d+/, 'X'),
    );
    assert.equal(our, their);
  });

  test('both make the same device, addresses, routes and firewall rules', async () => {
    const describeNode = async (node: ClusterNode): Promise<string> => {
      const third = subnetOf(node).split('.')[2];
      const texts = await Promise.all([
        node.namespace.ip('-o -4 address show dev flannel0'),
        node.namespace.ip('-o link show flannel0').then((text) => /mtu \d+/.exec(text)?.[0] ?? ''),
        node.namespace.ip('route show dev flannel0'),
        ...['nat', 'filter'].map(async (table) => (await node.namespace.exec('iptables', ['-t', table, '-S'])).stdout),
      ]);
      return texts
        .join('\n')
        .replace(/^\d+: /gm, '')
        .replaceAll(`10.5.${third}.`, '10.5.X.');
    };
    const [their, our] = await Promise.all([theirs, ours].map(describeNode));
    assert.equal(our, their);
  });

  test('the outside sees pods of either with the address of their node', async () => {
    for (const node of [theirs, ours]) {
      await withTcpServer(cluster.outside, 5000, async (server) => {
        await sendTcp(node.pods[0].namespace, OUTSIDE_ADDRESS, 5000, 100);
        assert.equal((await server.has(1))[0].peer, node.address);
      });
    }
  });

  test('flannel takes over a node of ours and its subnet, and ours takes it back', async () => {
    const subnet = subnetOf(ours);
    await ours.running.stop();
    const cleanup = new Daemon(ours.namespace, ours.folder, [
      ...[`--etcd-endpoints=${cluster.endpoint}`, '--cleanup', `--subnet-file=${ours.running.subnetFile}`],
    ]);
    assert.equal((await cleanup.ended()).status, 0, cleanup.evidence);
    assert.doesNotMatch(await ours.namespace.ip('-o link show'), /flannel0/);
    await ours.start(FLAGS, { program });
    assert.equal(subnetOf(ours), subnet);
    await untilConnected();
    await assertAllReachAll();

    await endFlannel(ours.running);
    await ours.start(FLAGS);
    assert.equal(subnetOf(ours), subnet);
    await untilConnected();
    await assertAllReachAll();
    assert.equal((await leaseOf(ours)).length, 1);
  });

  test('ours takes over a node of flannel and its subnet', async () => {
    const subnet = subnetOf(theirs);
    await endFlannel(theirs.running);
    await theirs.start(FLAGS);
    assert.equal(subnetOf(theirs), subnet);
    await untilConnected();
    await assertAllReachAll();
  });

  test('all of them end as asked', async () => {
    for (const node of cluster.nodes) assert.equal((await node.running.stop()).status, 0);
  });
});

/** flannel 0.26 sometimes waits for ever when it is asked to end soon after its start. */
async function endFlannel(daemon: Daemon): Promise<void> {
  const ended = daemon.stop().catch(() => undefined);
  const patience = setTimeout(() => void daemon.kill(), 5_000);
  await ended;
  clearTimeout(patience);
}
