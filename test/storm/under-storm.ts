/** A storm of leases over a cluster, while datagrams and a TCP stream go between pods of two nodes whose leases stay. */
import { setTimeout as sleep } from 'node:timers/promises';
import { processSeconds } from '../../bench/cpu.js';
import type { Cluster, ClusterNode } from '../harness/cluster.js';
import { PREFIX } from '../harness/cluster.js';
import { withPacedTraffic, type TrafficAccount } from '../harness/paced-traffic.js';
import { residentKib } from '../hostile/counters.js';
import { Chance } from '../simulation/chance.js';
import { differences } from './contents.js';
import { runLeaseStorm, type LeaseStormAccount } from './lease-storm.js';

export interface UnderStormOptions {
  /** The compiled `paced_traffic.cc`. */
  readonly pacedTraffic: string;
  readonly subnets: number;
  readonly changesPerSecond: number;
  readonly seconds: number;
  readonly seed: number;
  readonly signal?: AbortSignal;
}

/** How the first node's agent went through it. */
export interface StormAccount {
  readonly storm: LeaseStormAccount;
  readonly traffic: TrafficAccount;
  /** Processor time of the agent in percent of one core: all of it, packets included, and before the storm. */
  readonly cpuPercent: number;
  readonly calmCpuPercent: number;
  readonly memoryKib: { readonly start: number; readonly end: number };
  /** The longest that a question on the control socket waited. */
  readonly longestAnswerMs: number;
  readonly logged: readonly string[];
  /** From the end of the last change to a moment at which agent and etcd were found to agree, and what they differed in. */
  readonly rightAfterMs: number;
  readonly differences: readonly string[];
}

/** Datagrams a second each way. */
const RATE = 1000;
const CALM_MS = 2000;
/** The agent gets this long; it is meant to need two seconds at most. */
const PATIENCE_MS = 30_000;

export async function underStorm(cluster: Cluster, options: UnderStormOptions): Promise<StormAccount> {
  const [node] = cluster.nodes;
  const [from, to] = cluster.nodes.map(({ pods }) => pods[0]);
  const { pid } = node.running;
  const chance = new Chance(options.seed);
  const answers = new AnswerWatch(node);
  let storm: LeaseStormAccount | undefined;
  let [calmSeconds, stormSeconds, linesBefore, start] = [0, 0, 0, 0];
  let end = { rightAfterMs: 0, differences: [] as readonly string[] };
  let logged: readonly string[] = [];
  try {
    const traffic = await withPacedTraffic({ program: options.pacedTraffic, from, to, rate: RATE }, async () => {
      const calmFrom = processSeconds([pid]);
      await sleep(CALM_MS, undefined, { signal: options.signal });
      const stormFrom = processSeconds([pid]);
      calmSeconds = stormFrom - calmFrom;
      linesBefore = node.running.lines.length;
      start = residentKib(pid);
      answers.begin();
      storm = await runLeaseStorm({ ...options, etcd: cluster.etcd, prefix: PREFIX, chance });
      stormSeconds = processSeconds([pid]) - stormFrom;
      await answers.stop();
      end = await untilRight(node, chance);
      logged = node.running.lines.slice(linesBefore);
    });
    if (storm === undefined) throw new Error('there was no storm');
    return {
      storm,
      traffic,
      cpuPercent: (100 * stormSeconds) / storm.seconds,
      calmCpuPercent: (100 * calmSeconds) / (CALM_MS / 1000),
      memoryKib: { start, end: residentKib(pid) },
      longestAnswerMs: answers.longestMs,
      logged,
      ...end,
    };
  } finally {
    await answers.stop();
  }
}

async function untilRight(node: ClusterNode, chance: Chance) {
  const startedMs = performance.now();
  for (;;) {
    const rightAfterMs = performance.now() - startedMs;
    const found = await differences(node, chance);
    if (found.length === 0 || rightAfterMs > PATIENCE_MS) return { rightAfterMs, differences: found };
    await sleep(20);
  }
}

/** Asks an agent for its version, again and again: what is answered by the thread that takes in leases. */
export class AnswerWatch {
  longestMs = 0;
  readonly #node: ClusterNode;
  #work: Promise<void> | undefined;
  #going = false;

  constructor(node: ClusterNode) {
    this.#node = node;
  }

  get begun(): boolean {
    return this.#work !== undefined;
  }

  begin(): void {
    this.#going = true;
    this.#work = this.#watch();
    // Where the agent ends meanwhile, `stop` says so.
    this.#work.catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#going = false;
    await this.#work;
  }

  async #watch(): Promise<void> {
    while (this.#going) {
      const askedMs = performance.now();
      await this.#node.running.ask('/v1/version');
      this.longestMs = Math.max(this.longestMs, performance.now() - askedMs);
      await sleep(20);
    }
  }
}
