/**
 * Three nodes under traffic, for as long as is wanted, while everything that can happen to them does. Of two of them a
 * service manager runs the agent (restarts, kills), of the third nobody does (takeovers).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster } from '../harness/cluster.js';
import { compileHarness } from '../harness/compile.js';
import { untilReached } from '../harness/pod-traffic.js';
import { httpGet } from '../harness/traffic.js';
import { Chance } from '../simulation/chance.js';
import { accountFor, type Measures, type SoakAccount } from './account.js';
import { FreeAgent, ServiceAgent, type Agent, type Course, type Lapse } from './agent.js';
import { eventNamed, LANES, nextEvent, type Scene } from './events.js';
import { growth, readTally, sumOf, type Tally } from './tally.js';
import { SoakTraffic, type TrafficReport } from './traffic.js';
import { Underlay } from './underlay.js';

/** A packet is to be one packet wherever it is counted, so that the agents merge none of them. */
const FLAGS = ['--disable-offload=tun-tso,tun-uso', '--healthz-port=9990'];
const SAMPLE_MS = 500;
/** How long the last packets may take to be where they are counted. */
const SETTLE_MS = 20_000;
const MAX_MEMORY_MIB = 160;
/** Connections of those who look at an agent come and go. */
const MAX_DESCRIPTORS_MORE = 10;

export interface SoakOptions {
  readonly minutes: number;
  readonly seed: number;
  /** These events of each lane, one after another, in place of what chance has happen; it ends with the last of them. */
  readonly script?: readonly (readonly string[])[];
  /** Told what happens. */
  readonly say: (line: string) => void;
  readonly signal?: AbortSignal;
}

export interface AgentReport {
  readonly node: string;
  readonly restarts: number;
  readonly takeovers: number;
  readonly kills: number;
  readonly crashes: number;
  readonly memoryKib: Course;
  readonly descriptors: Course;
  readonly logLines: number;
  readonly lapses: readonly Lapse[];
  /** All that its processes have logged. */
  readonly log: string;
}

export interface SoakReport {
  readonly seconds: number;
  readonly events: Readonly<Record<string, number>>;
  readonly churned: { readonly written: number; readonly deleted: number };
  readonly account: SoakAccount;
  readonly traffic: TrafficReport;
  readonly agents: readonly AgentReport[];
  /** What must not be, a line each. */
  readonly failures: readonly string[];
}

/** Makes the network, lets things happen to it, and says what became of every packet. */
export async function runSoak(options: SoakOptions): Promise<SoakReport> {
  const cluster = await Cluster.create('soak', { nodes: 3 });
  const soak = new Soak(cluster, options);
  try {
    await soak.prepare();
    return await soak.run();
  } finally {
    await soak.close();
    await cluster.dispose();
  }
}

class Soak {
  private agents: Agent[] = [];
  private scene!: Scene;
  private readonly events: Record<string, number> = {};
  private readonly failures: string[] = [];
  private startedMs = 0;

  constructor(
    private readonly cluster: Cluster,
    private readonly options: SoakOptions,
  ) {}

  async prepare(): Promise<void> {
    const { cluster } = this;
    const compile = (source: string): Promise<string> => compileHarness(source, cluster.folder, ['-O2']);
    const [, pacedTraffic, floodProgram, serviceManager] = await Promise.all([
      cluster.startAll(FLAGS),
      ...['paced_traffic.cc', 'hostile_sender.cc', 'service_manager.cc'].map(compile),
    ]);
    const [node1, node2, node3] = cluster.nodes;
    const underlay = await Underlay.prepare(cluster);
    const served = [node1, node2].map((node) => ServiceAgent.start(node, FLAGS, serviceManager));
    this.agents = [...(await Promise.all(served)), new FreeAgent(node3, FLAGS)];
    this.scene = {
      ...{ cluster, underlay, floodProgram, agents: this.agents },
      traffic: new SoakTraffic(pacedTraffic, cluster.pods),
      unpluggedDrops: {},
      fragile: new Set(),
      churned: { written: 0, deleted: 0 },
    };
    for (const from of cluster.pods) {
      for (const to of cluster.pods) if (from !== to) await untilReached(from, to);
    }
  }

  async run(): Promise<SoakReport> {
    const { traffic, churned } = this.scene;
    // Nothing is under way any more: the last ping was answered.
    await this.sampleAll();
    for (const { ledger } of this.agents) ledger.open();
    const before = await this.readTallies();
    this.startedMs = performance.now();
    const watching = setInterval(() => void this.sampleAll(), SAMPLE_MS);
    let report: TrafficReport;
    try {
      await traffic.start();
      await this.letThingsHappen();
      report = await traffic.stop();
    } finally {
      clearInterval(watching);
    }
    const account = await this.settle(before, report);
    await this.check(account, report);
    const seconds = (performance.now() - this.startedMs) / 1000;
    const agents = this.agents.map(reportOf);
    return { seconds, events: this.events, churned, account, traffic: report, agents, failures: this.failures };
  }

  async close(): Promise<void> {
    await this.scene?.traffic.kill();
    await Promise.all(this.agents.map((agent) => agent.close()));
  }

  private async letThingsHappen(): Promise<void> {
    const { seed, script, minutes } = this.options;
    const endMs = this.startedMs + 60_000 * minutes;
    await Promise.all(
      LANES.map(async (lane, index) => {
        const chance = new Chance(seed + index);
        if (script !== undefined) {
          for (const name of script[index]) await this.happen(name, chance);
          return;
        }
        for (;;) {
          const pauseMs = 1000 * chance.between(...lane.pauseSeconds);
          const leftMs = endMs - performance.now();
          await sleep(Math.max(0, Math.min(pauseMs, leftMs)), undefined, { signal: this.options.signal });
          if (pauseMs > leftMs) return;
          await this.happen(nextEvent(lane, chance), chance);
        }
      }),
    );
  }

  private async happen(name: string, chance: Chance): Promise<void> {
    this.options.signal?.throwIfAborted();
    this.events[name] = (this.events[name] ?? 0) + 1;
    const from = this.elapsed();
    const what = await eventNamed(name)(this.scene, chance);
    this.options.say(`${from} to ${this.elapsed()} s  ${name}: ${what}`);
  }

  private elapsed(): string {
    return ((performance.now() - this.startedMs) / 1000).toFixed(1);
  }

  private async sampleAll(): Promise<void> {
    await Promise.all(this.agents.map((agent) => agent.sample()));
  }

  private async readTallies(): Promise<Map<string, Tally>> {
    const { nodes, pods, underlay } = this.cluster;
    const places = [...nodes, ...pods, { name: 'underlay', namespace: underlay }];
    const tallies = await Promise.all(
      places.map(async ({ name, namespace }) => [name, await readTally(namespace)] as const),
    );
    return new Map(tallies);
  }

  /** Waits until all that was sent is accounted for, or no longer. */
  private async settle(before: ReadonlyMap<string, Tally>, report: TrafficReport): Promise<SoakAccount> {
    for (const deadline = Date.now() + SETTLE_MS; ; await sleep(SAMPLE_MS)) {
      await this.sampleAll();
      const account = accountFor(this.measures(before, await this.readTallies(), report));
      if (account.missing === 0 || Date.now() > deadline) return account;
    }
  }

  private measures(
    before: ReadonlyMap<string, Tally>,
    after: ReadonlyMap<string, Tally>,
    { flows }: TrafficReport,
  ): Measures {
    const grown = (name: string): Tally => growth(before.get(name) ?? {}, after.get(name) ?? {});
    return {
      nodes: this.agents.map(({ node: { name, pods }, ledger, kills, crashes }) => ({
        name,
        host: grown(name),
        pods: pods.map((pod) => grown(pod.name)),
        agent: ledger.total(),
        interruptions: kills + crashes,
      })),
      underlay: grown('underlay'),
      programs: {
        sent: flows.reduce((sum, { sent }) => sum + sent, 0),
        received: flows.reduce((sum, { sent, lost, duplicates }) => sum + sent - lost + duplicates, 0),
      },
      unpluggedDrops: this.scene.unpluggedDrops,
    };
  }

  private async check({ missing }: SoakAccount, { flows, streams }: TrafficReport): Promise<void> {
    const { failures } = this;
    if (missing !== 0) failures.push(`${missing} packets are not accounted for`);
    for (const { name, outOfOrder, duplicates } of flows) {
      if (outOfOrder !== 0) failures.push(`${name}: ${outOfOrder} arrived out of order`);
      if (duplicates !== 0) failures.push(`${name}: ${duplicates} arrived twice`);
    }
    for (const { bytes, trouble } of streams) {
      if (trouble !== undefined) failures.push(`a TCP stream of ${bytes} bytes is not intact: ${trouble}`);
    }
    for (const agent of this.agents) {
      const { name, memoryKib, descriptors, unexpectedEnds } = agent;
      const mib = memoryKib.most / 1024;
      if (mib > MAX_MEMORY_MIB) failures.push(`the agent of ${name} had ${mib.toFixed(1)} MiB`);
      const more = descriptors.end - descriptors.start;
      if (more > MAX_DESCRIPTORS_MORE)
        failures.push(`the agent of ${name} has ${more} descriptors more than at the start`);
      if (unexpectedEnds !== 0) failures.push(`the agent of ${name} has ended ${unexpectedEnds} times by itself`);
      await this.checkTable(agent);
      await this.checkQueueMetric(agent);
    }
  }

  /** An agent forwards by what etcd holds. */
  private async checkTable(agent: Agent): Promise<void> {
    const stored = (await this.cluster.storedLeases()).map(({ key, value }) => {
      const { PublicIP } = JSON.parse(value) as { PublicIP: string };
      return `${key.slice(key.lastIndexOf('/') + 1).replace('-', '/')} ${PublicIP}`;
    });
    const wanted = stored.sort().join('\n');
    for (const deadline = Date.now() + SETTLE_MS; ; await sleep(SAMPLE_MS)) {
      const table = (await agent.table()).join('\n');
      if (table === wanted) return;
      if (Date.now() > deadline) {
        this.failures.push(`the table of ${agent.name} is not what etcd holds:\n${table}\netcd holds:\n${wanted}`);
        return;
      }
    }
  }

  /** An agent tells what the kernel's queues had no room for as the kernel does. */
  private async checkQueueMetric({ name, node }: Agent): Promise<void> {
    const { body = '', error = '' } = await httpGet(node.namespace, 'http://127.0.0.1:9990/metrics');
    const told = (queue: string): number =>
      Number(new RegExp(`^flannel_queue_dropped_packets_total\\{queue="${queue}"\\} (\\d+)$`, 'm').exec(body)?.[1]);
    const kernel = await readTally(node.namespace);
    const wanted = [sumOf(kernel, 'flannel0.txDropped'), sumOf(kernel, 'Udp.RcvbufErrors')].join(' and ');
    const found = [told('device'), told('socket')].join(' and ');
    if (found !== wanted) {
      this.failures.push(`the metrics of ${name} tell ${found} drops of its queues, the kernel ${wanted} ${error}`);
    }
  }
}

function reportOf(agent: Agent): AgentReport {
  const { name, restarts, takeovers, kills, crashes, memoryKib, descriptors, lapses, log } = agent;
  const logLines = log.split('\n').filter((line) => line !== '').length;
  return { node: name, restarts, takeovers, kills, crashes, memoryKib, descriptors, lapses, logLines, log };
}
