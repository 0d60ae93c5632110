/** Two networks on the same hosts: each with its prefix, port, device and rules; and how one of them leaves. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Cluster, type ClusterNode, type Pod } from '../../harness/cluster.js';
import { Daemon } from '../../harness/daemon.js';
import { ping } from '../../harness/ping.js';
import { until } from '../../harness/until.js';

type NetworkName = 'a' | 'b';

describe('two networks on the same hosts', () => {
  let cluster: Cluster;
  const daemons = new Map<string, Daemon>();
  const pods = new Map<string, Pod>();
  const pristine = new Map<ClusterNode, string>();

  before(async () => {
    cluster = await Cluster.create('two', { nodes: 2, config: null });
    await cluster.putConfig({ Network: '10.5.0.0/16' }, '/a');
    await cluster.putConfig({ Network: '10.6.0.0/16', Backend: { Type: 'udp', Port: 8286 } }, '/b');
    for (const node of cluster.nodes) {
      pristine.set(node, await stateOf(node));
      for (const network of ['a', 'b'] as const) {
        const daemon = await start(node, network);
        pods.set(node.name + network, await node.addPod(daemon, `cni-${network}`));
      }
    }
    await untilConnected('a');
    await untilConnected('b');
  });
  after(async () => {
    for (const daemon of daemons.values()) if (daemon.running) await daemon.kill();
    await cluster?.dispose();
  });

  function flagsOf(node: ClusterNode, network: NetworkName): string[] {
    const folder = join(node.folder, network);
    mkdirSync(folder, { recursive: true });
    return [
      `--etcd-endpoints=${cluster.endpoint}`,
      `--etcd-prefix=/${network}`,
      `--subnet-file=${join(folder, 'subnet.env')}`,
      `--control-socket=${join(folder, 'flanneld.sock')}`,
      '--ip-masq',
      '--iptables-resync=1',
    ];
  }

  async function start(node: ClusterNode, network: NetworkName): Promise<Daemon> {
    const daemon = new Daemon(node.namespace, node.folder, flagsOf(node, network));
    daemons.set(node.name + network, daemon);
    return daemon.ready();
  }

  const running = (node: ClusterNode, network: NetworkName): Daemon => daemons.get(node.name + network) as Daemon;
  const podOf = (node: ClusterNode, network: NetworkName): Pod => pods.get(node.name + network) as Pod;

  async function untilConnected(network: NetworkName): Promise<void> {
    const [from, to] = cluster.nodes.map((node) => podOf(node, network));
    await until(`the pods of network ${network} reach each other`, async () => {
      const { received } = await ping(from.namespace, to.address, { count: 1, waitSeconds: 1 });
      return received === 1;
    });
    assert.equal((await ping(to.namespace, from.address)).received, 3);
  }

  async function deviceOf(node: ClusterNode, network: string): Promise<string | undefined> {
    const routes = await node.namespace.ip('route show');
    return new RegExp(`^${network.replaceAll('.', '\\.')} dev (\\S+)`, 'm').exec(routes)?.[1];
  }

  test('each has a device of its own, and its own pods reach each other', async () => {
    for (const node of cluster.nodes) {
      assert.equal(await deviceOf(node, '10.5.0.0/16'), 'flannel0');
      assert.equal(await deviceOf(node, '10.6.0.0/16'), 'flannel1');
    }
  });

  test('a restart of both, the second first, finds the device of each again', async () => {
    const [node] = cluster.nodes;
    for (const ending of ['SIGTERM', 'SIGKILL'] as const) {
      for (const network of ['a', 'b'] as const) await running(node, network).stop(ending);
      await start(node, 'b');
      await start(node, 'a');
      assert.equal(await deviceOf(node, '10.5.0.0/16'), 'flannel0');
      assert.equal(await deviceOf(node, '10.6.0.0/16'), 'flannel1');
      assert.deepEqual(await flannelDevices(node), ['flannel0', 'flannel1']);
      await untilConnected('a');
      await untilConnected('b');
    }
  });

  test('the rules of one survive the starts and stops of the other', async () => {
    const [node] = cluster.nodes;
    const rulesOfA = async (): Promise<string[]> =>
      (await iptablesRules(node)).filter((rule) => rule.includes('10.5.'));
    const before = await rulesOfA();
    assert.equal(before.length, 5 + 2, `five in FLANNEL-POSTRTG, two in FLANNEL-FWD:\n${before.join('\n')}`);
    await running(node, 'b').stop();
    assert.deepEqual(await rulesOfA(), before);
    await start(node, 'b');
    assert.deepEqual(await rulesOfA(), before);
    assert.equal((await iptablesRules(node)).filter((rule) => rule.includes('10.6.')).length, 7);
  });

  test('--cleanup is refused while the daemon of its network runs', async () => {
    const [node] = cluster.nodes;
    const cleanup = new Daemon(node.namespace, node.folder, [...flagsOf(node, 'b'), '--cleanup']);
    const { status } = await cleanup.ended();
    assert.notEqual(status, 0);
    assert.match(cleanup.output, new RegExp(`\\b${running(node, 'b').pid}\\b`));
    await untilConnected('b');
  });

  test('--cleanup takes away all that its network made, and nothing of the other', async () => {
    const [node] = cluster.nodes;
    const { subnetFile, controlSocket } = running(node, 'b');
    const without = (text: string): string[] => text.split('\n').filter((line) => !/10\.6\.|flannel1/.test(line));
    await running(node, 'b').stop();
    const before = await stateOf(node);
    const cleanup = new Daemon(node.namespace, node.folder, [...flagsOf(node, 'b'), '--cleanup']);
    assert.equal((await cleanup.ended()).status, 0, cleanup.evidence);
    assert.match(cleanup.output, /flannel1/);
    const left = await stateOf(node);
    assert.deepEqual(without(left), without(before));
    assert.doesNotMatch(left, /flannel1/);
    assert.doesNotMatch(left, /^-A.*10\.6\./m);
    assert.ok(!existsSync(subnetFile) && !existsSync(controlSocket));
    await untilConnected('a');
  });

  test('when the last network is cleaned up, the host is as it was before flannel', async () => {
    const [node] = cluster.nodes;
    await running(node, 'a').stop();
    const cleanup = new Daemon(node.namespace, node.folder, [...flagsOf(node, 'a'), '--cleanup']);
    assert.equal((await cleanup.ended()).status, 0, cleanup.evidence);
    for (const pod of [podOf(node, 'a'), podOf(node, 'b')]) await pod.namespace.ip('link del eth0');
    for (const bridge of ['cni-a', 'cni-b']) await node.namespace.ip(`link del ${bridge}`);
    assert.equal(await stateOf(node), pristine.get(node));
    const again = new Daemon(node.namespace, node.folder, [...flagsOf(node, 'a'), '--cleanup']);
    assert.equal((await again.ended()).status, 0, 'with nothing to clean up it is content');
  });
});

async function flannelDevices(node: ClusterNode): Promise<string[]> {
  const links = await node.namespace.ip('-o link show');
  return [...links.matchAll(/^\d+: (flannel\d+):/gm)].map(([, name]) => name).sort();
}

/** `iptables -S` of both tables; rules only. */
async function iptablesRules(node: ClusterNode): Promise<string[]> {
  const tables = await Promise.all(
    ['nat', 'filter'].map(async (table) => (await node.namespace.exec('iptables', ['-t', table, '-S'])).stdout),
  );
  return tables.flatMap((text) => text.split('\n').filter((line) => line.startsWith('-A')));
}

/** What a daemon could have left on a host: devices, routes, firewall. */
async function stateOf(node: ClusterNode): Promise<string> {
  const links = await node.namespace.ip('-o link show');
  const names = [...links.matchAll(/^\d+: ([^:@]+)/gm)].map(([, name]) => name).sort();
  const routes = (await node.namespace.ip('route show')).trimEnd();
  const chains = await Promise.all(
    ['nat', 'filter'].map(async (table) => (await node.namespace.exec('iptables', ['-t', table, '-S'])).stdout),
  );
  return [...names, routes, ...chains].join('\n');
}
