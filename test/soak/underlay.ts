/**
 * The network between the nodes, where every datagram of the tunnels is counted one by one as it comes from its sender,
 * and where faults are made that count what they take. Where the bridge takes a frame in:
 *
 *     node1 ──┐  count: sent_node1        faults: cut        ┌── node1
 *     node2 ──┼───────────────────────── ────────────────────┼── node2
 *     stranger┘  sent_stranger                               └── …
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster, ClusterNode } from '../harness/cluster.js';
import { until } from '../harness/until.js';
import type { Namespace } from '../../src/lab/namespace.js';

const TUNNEL = 'udp dport 8285';
const STORE = 'tcp dport 2379';
/** Of one in this many parts that a bad link loses. */
const PARTS = 100;
/** `BR_STATE_FORWARDING` in `linux/if_bridge.h`. */
const FORWARDING = 3;
/** What is under way needs so long to be where it is counted. */
export const SETTLE_MS = 200;

export class Underlay {
  private constructor(private readonly cluster: Cluster) {}

  /** Puts the counters in place and makes the network such that one packet is one packet wherever it is counted. */
  static async prepare(cluster: Cluster): Promise<Underlay> {
    const { nodes, underlay, stranger } = cluster;
    const senders = [...nodes.map(({ name }) => name), 'stranger'];
    await nft(underlay, [
      'table bridge soak {',
      ...[...senders.map((name) => `counter sent_${name} {}`), 'counter cut {}', 'counter store_cut {}'],
      'chain count {',
      'type filter hook prerouting priority -300',
      ...senders.map((name) => `iifname "${name}" ${TUNNEL} counter name "sent_${name}"`),
      '}',
      'chain faults {',
      'type filter hook prerouting priority -200',
      '}',
      '}',
    ]);
    for (const { namespace } of nodes) {
      await nft(namespace, [
        'table ip soak {',
        'counter own {}',
        'chain own {',
        'type filter hook output priority 300',
        'oifname { "cni0", "flannel0" } counter name own',
        '}',
        'chain faults {',
        'type filter hook output priority 310',
        '}',
        '}',
      ]);
    }
    const hosts = [...nodes.map(({ namespace }) => namespace), ...cluster.pods.map(({ namespace }) => namespace)];
    await Promise.all([...hosts, underlay, stranger].map(silenceIpv6));
    await Promise.all([
      // A train is cut into its datagrams where it leaves a host, and a segment where it leaves a pod.
      ...nodes.map(({ namespace }) => offloadsOff(namespace, ['tx-udp-segmentation'])),
      ...cluster.pods.map(({ namespace }) => offloadsOff(namespace, ['tso', 'gso'])),
      ...nodes.map((node) => knowNeighbours(node, nodes)),
    ]);
    return new Underlay(cluster);
  }

  /** Everything to and from a node's tunnel is lost, or so many of a hundred. */
  async lose(node: ClusterNode, percent = PARTS): Promise<void> {
    const some = percent === PARTS ? '' : `numgen random mod ${PARTS} < ${percent} `;
    await this.faults(
      ['saddr', 'daddr'].map((end) => `ip ${end} ${node.address} ${TUNNEL} ${some}counter name "cut" drop`),
    );
  }

  /** Everything that a node sends to the store is lost, or so many of a hundred: it does not answer, or slowly. */
  async loseRequests(node: ClusterNode, percent = PARTS): Promise<void> {
    const some = percent === PARTS ? '' : `numgen random mod ${PARTS} < ${percent} `;
    await this.faults([`ip saddr ${node.address} ${STORE} ${some}counter name "store_cut" drop`]);
  }

  /** Pulls a node's cable: what is on the way to it is counted before the bridge has no port for it any more. */
  async unplug(node: ClusterNode): Promise<void> {
    await this.lose(node);
    await sleep(SETTLE_MS);
    await this.cluster.underlay.ip(`link set ${node.name} down`);
  }

  async plugIn(node: ClusterNode): Promise<void> {
    const { underlay } = this.cluster;
    const read = async (namespace: Namespace, path: string): Promise<string> =>
      (await namespace.exec('cat', [`/sys/class/net/${path}`])).stdout.trim();
    await underlay.setUp(node.name);
    // The kernel tells of a carrier up to a second later; until then bridge and host drop what they should carry, uncounted.
    await until(`${node.name} is plugged in`, async () => {
      const states = [await read(underlay, `${node.name}/brport/state`), await read(node.namespace, 'eth0/operstate')];
      return states.join(' ') === `${FORWARDING} up`;
    });
    await sleep(SETTLE_MS);
    await this.mend();
  }

  /** The node's own firewall refuses what its agent sends. */
  refuseSending({ namespace }: ClusterNode): Promise<void> {
    return nft(namespace, [`add rule ip soak faults ${TUNNEL} drop`]);
  }

  allowSending({ namespace }: ClusterNode): Promise<void> {
    return nft(namespace, ['flush chain ip soak faults']);
  }

  /** Takes every loss away. */
  async mend(): Promise<void> {
    await nft(this.cluster.underlay, ['flush chain bridge soak faults']);
  }

  private faults(rules: readonly string[]): Promise<void> {
    return nft(
      this.cluster.underlay,
      rules.map((rule) => `add rule bridge soak faults ${rule}`),
    );
  }
}

async function nft(namespace: Namespace, lines: readonly string[]): Promise<void> {
  await namespace.exec('nft', ['-f', '-'], { input: `${lines.join('\n')}\n` });
}

/** Its announcements would be packets that no sender of the soak has sent. */
async function silenceIpv6(namespace: Namespace): Promise<void> {
  // A kernel without IPv6 has no such setting, and no such packets.
  await namespace.exec(
    'sysctl',
    ['-q', '-w', 'net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1'],
    {
      allowFailure: true,
    },
  );
}

async function offloadsOff(namespace: Namespace, names: readonly string[]): Promise<void> {
  await namespace.exec('ethtool', ['-K', 'eth0', ...names.flatMap((name) => [name, 'off'])]);
}

/** Writes down who is where, so that no packet waits, or is lost, for want of an answer to ARP. */
async function knowNeighbours(node: ClusterNode, nodes: readonly ClusterNode[]): Promise<void> {
  const { namespace, pods } = node;
  const know = (from: Namespace, address: string, mac: string, device: string): Promise<string> =>
    from.ip(`neigh replace ${address} lladdr ${mac} dev ${device} nud permanent`);
  for (const other of nodes) {
    if (other !== node) await know(namespace, other.address, await macOf(other.namespace, 'eth0'), 'eth0');
  }
  const gateway = (await node.addressesOf('cni0'))[0].split('/')[0];
  const bridge = await macOf(namespace, 'cni0');
  for (const pod of pods) {
    await know(namespace, pod.address, await macOf(pod.namespace, 'eth0'), 'cni0');
    await know(pod.namespace, gateway, bridge, 'eth0');
  }
}

async function macOf(namespace: Namespace, device: string): Promise<string> {
  const { stdout } = await namespace.exec('cat', [`/sys/class/net/${device}/address`]);
  return stdout.trim();
}
