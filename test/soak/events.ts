/** What happens to a network in a soak: two lanes of events, of which one of each may go on at a time. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster, ClusterNode } from '../harness/cluster.js';
import { PREFIX } from '../harness/cluster.js';
import type { Chance } from '../simulation/chance.js';
import { FreeAgent, ServiceAgent, type Agent } from './agent.js';
import type { SoakTraffic } from './traffic.js';
import { SETTLE_MS, type Underlay } from './underlay.js';

/** Where events happen. */
export interface Scene {
  readonly cluster: Cluster;
  readonly underlay: Underlay;
  readonly traffic: SoakTraffic;
  readonly agents: readonly Agent[];
  /** The compiled `hostile_sender.cc`. */
  readonly floodProgram: string;
  /** What eth0 of a node was told to drop while its cable was out, by node. */
  readonly unpluggedDrops: Record<string, number>;
  /**
   * Nodes whose agent is being killed, or refused its packets: never both. What it had refused since it was last asked
   * would go with it, and be more than it can have in hand.
   */
  readonly fragile: Set<ClusterNode>;
  /** Leases written and taken away. */
  readonly churned: { written: number; deleted: number };
}

/** Does it, takes it back, and returns what it was, for people. */
type Event = (scene: Scene, chance: Chance) => Promise<string>;

interface Lane {
  readonly pauseSeconds: readonly [least: number, most: number];
  /** Each as often as its weight says. */
  readonly events: Readonly<Record<string, { readonly weight: number; readonly happen: Event }>>;
}

const FLOOD_DATAGRAMS = 20_000;
const TUNNEL_PORT = 8285;
/** What other nodes hold, in a part of the Network that no node of the soak comes to: 10.5.100.0 to 10.5.255.0. */
const CHURNED_SUBNETS = Array.from({ length: 156 }, (_, index) => `10.5.${100 + index}.0/24`);
const CHURNED_AT_ONCE = 16;

/** What happens to agents, and in their queues. */
const AGENTS: Lane = {
  pauseSeconds: [2, 10],
  events: {
    restart: { weight: 3, happen: restart },
    takeover: { weight: 3, happen: takeOver },
    kill: { weight: 2, happen: kill },
    crash: { weight: 1, happen: crash },
    watch: { weight: 2, happen: watch },
    burst: { weight: 2, happen: burst },
    flood: { weight: 1, happen: flood },
  },
};

/** What happens to the store, and between the nodes. */
const SURROUNDINGS: Lane = {
  pauseSeconds: [1, 8],
  events: {
    churn: { weight: 5, happen: churn },
    'store-stops': { weight: 1, happen: stopStore },
    'store-crashes': { weight: 1, happen: crashStore },
    'store-unreachable': { weight: 2, happen: hideStore },
    'store-slow': { weight: 1, happen: slowStore },
    compaction: { weight: 1, happen: compact },
    'tunnel-cut': { weight: 1, happen: cutTunnel },
    'tunnel-lossy': { weight: 1, happen: loseSome },
    unplugged: { weight: 1, happen: unplug },
  },
};

export const LANES: readonly Lane[] = [AGENTS, SURROUNDINGS];

/** @throws when there is no such event */
export function eventNamed(name: string): Event {
  const found = LANES.map(({ events }) => events[name]).find((event) => event !== undefined);
  if (found === undefined) throw new Error(`there is no event "${name}"`);
  return found.happen;
}

/** The name of the event that chance has a lane do next. */
export function nextEvent({ events }: Lane, chance: Chance): string {
  const all = Object.entries(events).flatMap(([name, { weight }]) => Array<string>(weight).fill(name));
  return chance.oneOf(all);
}

async function restart({ agents }: Scene, chance: Chance): Promise<string> {
  const agent = chance.oneOf(agents.filter((one) => one instanceof ServiceAgent));
  await agent.restart();
  return `the agent of ${agent.name} was started anew, with its descriptors from the store`;
}

async function kill({ agents, fragile }: Scene, chance: Chance): Promise<string> {
  const served = agents.filter((one) => one instanceof ServiceAgent);
  const agent = chance.oneOf(served.filter(({ node }) => !fragile.has(node)));
  fragile.add(agent.node);
  await agent.kill();
  fragile.delete(agent.node);
  return `the agent of ${agent.name} was killed, and the next one has its descriptors`;
}

async function crash({ agents }: Scene, chance: Chance): Promise<string> {
  const agent = chance.oneOf(agents.filter((one) => one instanceof ServiceAgent));
  await agent.crashWorkers();
  return `each packet worker of ${agent.name} threw, and was started again`;
}

async function takeOver({ agents }: Scene, chance: Chance): Promise<string> {
  const agent = chance.oneOf(agents.filter((one) => one instanceof FreeAgent));
  const refusal = await agent.takeOver();
  if (refusal !== undefined) return `the agent of ${agent.name} was not taken over from and goes on: ${refusal}`;
  return `the agent of ${agent.name} was taken over from`;
}

/** Somebody looks at the packets of an agent for a while, as `trace` and `capture` do. */
async function watch({ agents }: Scene, chance: Chance): Promise<string> {
  const agent = chance.oneOf(agents);
  const seconds = chance.between(1, 4);
  let packets = 0;
  const request = { packetBytes: 128, wirePackets: chance.happens(0.5) };
  for await (const { kind } of agent.control.tap(request, AbortSignal.timeout(Math.round(1000 * seconds)))) {
    if (kind === 'event') packets++;
  }
  return `${agent.name}'s packets were watched for ${seconds.toFixed(1)} s: ${packets} of them`;
}

async function burst({ traffic, cluster: { pods } }: Scene, chance: Chance): Promise<string> {
  const from = chance.oneOf(pods);
  const to = chance.oneOf(pods.filter((pod) => pod !== from));
  const { sent, lost } = await traffic.burst(from, to);
  return `${sent} datagrams at once between ${from.name} and ${to.name}, both ways: ${lost} did not arrive`;
}

/** Datagrams of a host that has no lease, until the socket's queue is full. */
async function flood({ cluster: { nodes, stranger }, floodProgram }: Scene, chance: Chance): Promise<string> {
  const victim = chance.oneOf(nodes);
  const subnetOf = ({ pods }: ClusterNode): string => pods[0].address.replace(/\.\d+$/, '');
  const other = chance.oneOf(nodes.filter((node) => node !== victim));
  await stranger.exec(floodProgram, [
    ...['udp', victim.address, String(TUNNEL_PORT), String(FLOOD_DATAGRAMS), String(1 + chance.below(1e6))],
    ...[subnetOf(other), subnetOf(victim), victim.address, 'well-formed', '0'],
  ]);
  return `${FLOOD_DATAGRAMS} datagrams of a stranger for ${victim.name}`;
}

/** Other nodes come, move and go. */
async function churn(scene: Scene, chance: Chance): Promise<string> {
  const { cluster, churned } = scene;
  let [written, deleted] = [0, 0];
  const changes = CHURNED_SUBNETS.flatMap((subnet): (() => Promise<void>)[] => {
    const owner = `192.168.64.${100 + chance.below(150)}`;
    if (chance.happens(0.4)) return [() => (written++, cluster.putLease(subnet, owner))];
    if (chance.happens(0.7)) {
      return [() => (deleted++, cluster.etcd.delete(`${PREFIX}/subnets/${subnet.replace('/', '-')}`))];
    }
    return [];
  });
  for (let at = 0; at < changes.length; at += CHURNED_AT_ONCE) {
    await Promise.all(changes.slice(at, at + CHURNED_AT_ONCE).map((change) => change()));
  }
  churned.written += written;
  churned.deleted += deleted;
  return `${written} leases were written and ${deleted} deleted`;
}

async function stopStore({ cluster: { etcd } }: Scene, chance: Chance): Promise<string> {
  const seconds = absence(chance);
  await etcd.stop();
  await sleep(1000 * seconds);
  await etcd.restart();
  return `etcd was stopped for ${seconds.toFixed(1)} s`;
}

async function crashStore({ cluster: { etcd } }: Scene, chance: Chance): Promise<string> {
  const seconds = absence(chance);
  await etcd.kill();
  await sleep(1000 * seconds);
  await etcd.restart();
  return `etcd was killed, and back after ${seconds.toFixed(1)} s`;
}

/** A node's requests vanish, and so do the changes of that time, for the history is compacted meanwhile. */
async function hideStore(scene: Scene, chance: Chance): Promise<string> {
  const node = chance.oneOf(scene.cluster.nodes);
  await scene.underlay.loseRequests(node);
  const changes = await churn(scene, chance);
  const compacted = await compact(scene);
  await sleep(1000 * absence(chance));
  await scene.underlay.mend();
  return `${node.name} did not reach etcd while ${changes}; ${compacted}`;
}

async function slowStore(scene: Scene, chance: Chance): Promise<string> {
  const node = chance.oneOf(scene.cluster.nodes);
  await scene.underlay.loseRequests(node, 50);
  const changes = await churn(scene, chance);
  await sleep(1000 * absence(chance));
  await scene.underlay.mend();
  return `every other packet of ${node.name} to etcd was lost while ${changes}`;
}

async function compact({ cluster: { etcd } }: Scene): Promise<string> {
  // Nothing that is compacted already can be compacted again.
  await etcd.put('/soak', 'a revision more');
  const { header } = (await etcd.call('/v3/kv/range', { key: 'AA==' })) as { header?: { revision?: string } };
  const revision = header?.revision ?? '0';
  await etcd.call('/v3/kv/compaction', { revision });
  return `etcd's history was compacted up to revision ${revision}`;
}

async function cutTunnel({ cluster, underlay }: Scene, chance: Chance): Promise<string> {
  const node = chance.oneOf(cluster.nodes);
  const seconds = absence(chance);
  await underlay.lose(node);
  await sleep(1000 * seconds);
  await underlay.mend();
  return `every datagram to and from ${node.name} was lost for ${seconds.toFixed(1)} s`;
}

async function loseSome({ cluster, underlay }: Scene, chance: Chance): Promise<string> {
  const node = chance.oneOf(cluster.nodes);
  const [seconds, percent] = [absence(chance), 5 + chance.below(20)];
  await underlay.lose(node, percent);
  await sleep(1000 * seconds);
  await underlay.mend();
  return `${percent} in 100 datagrams to and from ${node.name} were lost for ${seconds.toFixed(1)} s`;
}

/**
 * A node's cable is pulled. Before that its firewall refuses the tunnel's datagrams, which the agent is told of: what
 * a device without a carrier drops is counted with everything else that it drops then.
 */
async function unplug({ cluster, underlay, unpluggedDrops, fragile }: Scene, chance: Chance): Promise<string> {
  const node = chance.oneOf(cluster.nodes.filter((one) => !fragile.has(one)));
  fragile.add(node);
  const seconds = absence(chance);
  const dropped = async (): Promise<number> => {
    const { stdout } = await node.namespace.exec('cat', ['/sys/class/net/eth0/statistics/tx_dropped']);
    return Number(stdout);
  };
  await underlay.refuseSending(node);
  await sleep(SETTLE_MS);
  const before = await dropped();
  await underlay.unplug(node);
  await sleep(1000 * seconds);
  await underlay.plugIn(node);
  unpluggedDrops[node.name] = (unpluggedDrops[node.name] ?? 0) + (await dropped()) - before;
  await underlay.allowSending(node);
  fragile.delete(node);
  return `the cable of ${node.name} was out for ${seconds.toFixed(1)} s`;
}

/** Seconds that something is away: short enough for TCP to go on soon after it. */
function absence(chance: Chance): number {
  return chance.between(0.5, 4);
}
