/**
 * An agent under hostile packets. Of two nodes node1 is attacked: over the underlay by a host without a lease and from
 * node2's address, which has one; and from inside, by a pod that sends past its own IP layer and by somebody who writes into
 * flannel0. An honest ping goes on between pods of both nodes.
 */
import type { Namespace } from '../../src/lab/namespace.js';
import { compileHarness } from '../harness/compile.js';
import { Cluster, type ClusterNode } from '../harness/cluster.js';
import { ping, SteadyPing } from '../harness/ping.js';
import { until } from '../harness/until.js';
import { countedPackets, growth, readCounts, residentKib, type Counts } from './counters.js';
import { planFloods, TO_TUNNEL_PORT, type Flood, type Origin } from './floods.js';

const PORT = 8285;
const PING_SECONDS = 0.005;
const MEMORY_EVERY_MS = 200;
/** How long the last packets may take to be counted. */
const SETTLE_MS = 20_000;
const FLOOD_TIMEOUT_MS = 3_600_000;

export interface AssaultOptions {
  readonly packets: number;
  readonly seed: number;
  /** Told what goes on. */
  readonly say: (line: string) => void;
  readonly signal?: AbortSignal;
}

export interface Assault {
  readonly sent: readonly { readonly flood: Flood; readonly byKind: Readonly<Record<string, number>> }[];
  /** What all counters grew by. */
  readonly counts: Counts;
  /** Hostile datagrams and those of the other node, less all that are accounted for: 0. */
  readonly underlayMissing: number;
  /** Packets that left flannel0 for the agent, less those that it has counted: 0. */
  readonly tunMissing: number;
  readonly honest: { readonly sent: number; readonly received: number };
  /** Pings after everything, of which all must be answered. */
  readonly after: { readonly sent: number; readonly received: number };
  readonly memoryKib: { readonly start: number; readonly end: number; readonly most: number };
  /** Lines that the attacked agent logged meanwhile. */
  readonly logged: readonly string[];
  readonly seconds: number;
}

/** Makes a cluster, attacks it, and says what became of everything. */
export async function runAssault(options: AssaultOptions): Promise<Assault> {
  const cluster = await Cluster.create('hostile', { nodes: 2 });
  try {
    await cluster.startAll();
    return await new Attack(cluster, options).run();
  } finally {
    await cluster.dispose();
  }
}

class Attack {
  private readonly victim: ClusterNode;
  private readonly peer: ClusterNode;

  constructor(
    private readonly cluster: Cluster,
    private readonly options: AssaultOptions,
  ) {
    [this.victim, this.peer] = cluster.nodes;
  }

  async run(): Promise<Assault> {
    const { options, victim, peer } = this;
    const sender = await compileHarness('hostile_sender.cc', this.cluster.folder, ['-O2']);
    const [target, source] = [victim.pods[0], peer.pods[0]];
    const { pid } = victim.running;
    const before = await this.readStanding();
    const honest = await SteadyPing.start(source.namespace, target.address, { intervalSeconds: PING_SECONDS });
    const linesBefore = victim.running.lines.length;
    const start = residentKib(pid);
    let most = start;
    const watch = setInterval(() => (most = Math.max(most, residentKib(pid))), MEMORY_EVERY_MS);
    const startedMs = performance.now();
    const sent: { flood: Flood; byKind: Record<string, number> }[] = [];
    try {
      for (const [index, flood] of planFloods(options.packets).entries()) {
        options.signal?.throwIfAborted();
        if (flood.packets === 0) continue;
        const floodedMs = performance.now();
        sent.push({ flood, byKind: await this.send(sender, flood, options.seed + index) });
        const seconds = (performance.now() - floodedMs) / 1000;
        options.say(`${describe(flood)} in ${seconds.toFixed(1)} s`);
      }
    } finally {
      clearInterval(watch);
    }
    const seconds = (performance.now() - startedMs) / 1000;
    const pinged = await honest.stop();
    const { counts, underlayMissing, tunMissing } = await this.settle(before, sent);
    const after = await ping(source.namespace, target.address, { count: 50 });
    const end = residentKib(pid);
    return {
      sent,
      counts,
      underlayMissing,
      tunMissing,
      honest: { sent: pinged.sent, received: pinged.received },
      after,
      memoryKib: { start, end, most: Math.max(most, end) },
      logged: victim.running.lines.slice(linesBefore),
      seconds,
    };
  }

  private read(): Promise<Counts> {
    return readCounts(this.cluster, this.victim, this.peer);
  }

  /** The counters when nothing is under way: reading all of them takes time. */
  private readStanding(): Promise<Counts> {
    let last = '';
    return until(
      'nothing is under way',
      async () => {
        const counts = await this.read();
        const text = JSON.stringify(counts);
        const standing = text === last;
        last = text;
        return standing && counts;
      },
      { everyMs: 200 },
    );
  }

  /** Waits until all that was sent is accounted for, or no longer. */
  private async settle(
    before: Counts,
    sent: readonly { readonly flood: Flood; readonly byKind: Readonly<Record<string, number>> }[],
  ): Promise<Pick<Assault, 'counts' | 'underlayMissing' | 'tunMissing'>> {
    const hostile = sent
      .flatMap(({ flood: { origin }, byKind }) =>
        Object.entries(byKind).filter(([kind]) => comesToTunnelPort(origin, kind)),
      )
      .reduce((sum, [, packets]) => sum + packets, 0);
    const deadline = Date.now() + SETTLE_MS;
    return until(
      'the counters stand still',
      async () => {
        const counts = growth(before, await this.read());
        const { decap, encap, fromPeer, socketDrops, deviceDrops, tunRead } = counts;
        const underlayMissing = hostile + fromPeer - countedPackets(decap) - socketDrops - deviceDrops;
        const tunMissing = tunRead - countedPackets(encap);
        const settled = underlayMissing === 0 && tunMissing === 0;
        return (settled || Date.now() > deadline) && { counts, underlayMissing, tunMissing };
      },
      { withinMs: 2 * SETTLE_MS, everyMs: 200 },
    );
  }

  private async send(sender: string, flood: Flood, seed: number): Promise<Record<string, number>> {
    const { victim, peer } = this;
    const [victims, peers] = [victim, peer].map(({ pods }) => pods[0].address.replace(/\.\d+$/, ''));
    const inward = flood.origin === 'unleased' || flood.origin === 'leased';
    const prefixes = inward ? [peers, victims] : [victims, peers];
    const { namespace, address } = await this.placeOf(flood.origin);
    const { stdout } = await namespace.exec(
      sender,
      [
        ...[...address, String(flood.packets), String(seed), ...prefixes, victim.address],
        ...[flood.kinds.join(','), flood.paced ? String(victim.running.pid) : '0'],
      ],
      { timeoutMs: FLOOD_TIMEOUT_MS },
    );
    return JSON.parse(stdout) as Record<string, number>;
  }

  /** Where a flood is sent from, and the sender's first arguments. */
  private async placeOf(
    origin: Origin,
  ): Promise<{ readonly namespace: Namespace; readonly address: readonly string[] }> {
    const { cluster, victim, peer } = this;
    switch (origin) {
      case 'unleased':
        return { namespace: cluster.stranger, address: ['udp', victim.address, String(PORT)] };
      case 'leased':
        return { namespace: peer.namespace, address: ['udp', victim.address, String(PORT)] };
      case 'pod': {
        const { stdout } = await victim.namespace.exec('cat', ['/sys/class/net/cni0/address']);
        return { namespace: victim.pods[0].namespace, address: ['device', 'eth0', stdout.trim()] };
      }
      case 'device':
        return { namespace: victim.namespace, address: ['device', 'flannel0', '-'] };
    }
  }
}

function comesToTunnelPort(origin: Origin, kind: string): boolean {
  return origin === 'unleased' || origin === 'leased' || (origin === 'pod' && kind === TO_TUNNEL_PORT);
}

function describe({ origin, kinds, packets, paced }: Flood): string {
  const what = kinds.length === 1 ? kinds[0] : `${kinds.length} kinds`;
  return `${packets.toLocaleString('en-US')} packets (${what}) from ${origin}${paced ? ', paced' : ''}`;
}
