/** The agent of one node over all its lives: started anew, killed, taken over from, and watched. */
import { readdirSync } from 'node:fs';
import { ControlClient } from '../../src/flannelctl/control-client.js';
import type { StatusAnswer } from '../../src/observe/control-protocol.js';
import type { ClusterNode } from '../harness/cluster.js';
import type { Daemon } from '../harness/daemon.js';
import { failWorkers, withWorkerFaults } from '../harness/restarts.js';
import { ServiceManager } from '../harness/service-manager.js';
import { until } from '../harness/until.js';
import { residentKib } from '../hostile/counters.js';
import { Ledger } from './ledger.js';

/** How long a takeover may take, on a machine that has much else to do. */
const TAKEOVER_MS = 60_000;

/** Of memory or descriptors: when watching began, at its end, and the most that was seen. */
export interface Course {
  readonly start: number;
  readonly end: number;
  readonly most: number;
}

/** A time in which an agent that ran was not ready. */
export interface Lapse {
  readonly node: string;
  readonly reason: string;
  readonly seconds: number;
}

export abstract class Agent {
  readonly ledger = new Ledger();
  readonly lapses: Lapse[] = [];
  kills = 0;
  restarts = 0;
  takeovers = 0;
  /** Times that each of its packet workers was made to throw. */
  crashes = 0;
  readonly #memoryKib: number[] = [];
  readonly #descriptors: number[] = [];
  /** The process that was ready when it was asked last, and since when it is not. */
  #lapsing: { readonly pid: number; readonly reason: string; readonly sinceMs: number } | undefined;
  #readyPid: number | undefined;

  constructor(readonly node: ClusterNode) {}

  abstract close(): Promise<void>;
  /** Ends that nobody asked for. */
  abstract get unexpectedEnds(): number;
  /** All that its processes have logged. */
  abstract get log(): string;
  abstract get control(): ControlClient;

  get name(): string {
    return this.node.name;
  }

  status(): Promise<StatusAnswer> {
    return this.control.status();
  }

  /** What the agent forwards by: subnets and who has them. */
  async table(): Promise<string[]> {
    const leases = await this.control.leases();
    return leases.map(({ subnet, publicIP }) => `${subnet} ${publicIP}`).sort();
  }

  /** Looks at it: its counters go into the ledger. One that is between two lives is passed over. */
  async sample(): Promise<void> {
    const status = await this.status().catch(() => undefined);
    if (status?.backend === undefined) return;
    const { pid, state, backend, reason = state } = status;
    this.ledger.seen(pid, backend);
    if (state !== 'stopping') this.#watchReadiness(pid, state === 'ready' ? undefined : reason);
    try {
      const descriptors = readdirSync(`/proc/${pid}/fd`).length;
      this.#memoryKib.push(residentKib(pid));
      this.#descriptors.push(descriptors);
    } catch {
      // It has ended meanwhile.
    }
  }

  get memoryKib(): Course {
    return courseOf(this.#memoryKib);
  }

  get descriptors(): Course {
    return courseOf(this.#descriptors);
  }

  #watchReadiness(pid: number, reason: string | undefined): void {
    if (this.#lapsing !== undefined && (reason === undefined || pid !== this.#lapsing.pid)) {
      const { sinceMs, reason: why } = this.#lapsing;
      this.lapses.push({ node: this.name, reason: why, seconds: (performance.now() - sinceMs) / 1000 });
      this.#lapsing = undefined;
    }
    if (reason === undefined) this.#readyPid = pid;
    else if (pid === this.#readyPid) this.#lapsing ??= { pid, reason, sinceMs: performance.now() };
  }
}

/** An agent that a service manager runs and starts again, and that keeps its descriptors there. */
export class ServiceAgent extends Agent {
  private constructor(
    node: ClusterNode,
    private readonly manager: ServiceManager,
  ) {
    super(node);
  }

  /**
   * Puts a service manager in the place of the daemon that runs on the node.
   * @param program - the compiled `service_manager.cc`
   */
  static async start(node: ClusterNode, flags: readonly string[], program: string): Promise<ServiceAgent> {
    await node.running.stop();
    const manager = new ServiceManager({ program, node, flags, environment: withWorkerFaults() });
    await manager.untilReady('start');
    return new ServiceAgent(node, manager);
  }

  /** Stops it and starts the next one. */
  async restart(): Promise<void> {
    await this.sample();
    const { pid, log } = this;
    this.restarts++;
    await this.manager.untilReady('restart');
    this.ledger.ended(pid, this.log.slice(log.length));
  }

  /** Ends it with `kill -9`; the service manager starts the next one. */
  async kill(): Promise<void> {
    await this.sample();
    this.kills++;
    await this.manager.untilReady('kill');
  }

  /** Makes each of its packet workers throw; the agent starts them again. */
  async crashWorkers(): Promise<void> {
    await this.sample();
    this.crashes++;
    await failWorkers(this);
  }

  async close(): Promise<void> {
    await this.manager.close();
  }

  get unexpectedEnds(): number {
    return this.manager.events.filter((event) => event.startsWith('ended ')).length - this.restarts - this.kills;
  }

  get log(): string {
    return this.manager.log;
  }

  get control(): ControlClient {
    return new ControlClient(this.manager.controlSocket);
  }

  get evidence(): string {
    return this.log.split('\n').slice(-25).join('\n');
  }

  get pid(): number {
    const started = this.manager.events.findLast((event) => event.startsWith('started '));
    return Number(started?.split(' ')[1]);
  }
}

/** An agent that nobody runs, whose place the next one takes. */
export class FreeAgent extends Agent {
  readonly #former: Daemon[] = [];

  constructor(
    node: ClusterNode,
    private readonly flags: readonly string[],
  ) {
    super(node);
  }

  /** Starts one that takes the running one's place. Returns why not, where the running one goes on. */
  async takeOver(): Promise<string | undefined> {
    const old = this.node.running;
    const { pid } = old;
    await this.sample();
    const next = this.node.launch(['--takeover', ...this.flags]);
    await until('one of the two agents ends', () => !old.running || !next.running, {
      withinMs: TAKEOVER_MS,
      evidence: () => `${old.evidence}\n${next.evidence}`,
    });
    if (old.running) {
      this.node.daemon = old;
      return next.lines.at(-1) ?? 'it said nothing';
    }
    const { status } = await old.ended();
    if (status !== 0) throw new Error(`the agent that was taken over from ended with ${status}\n${old.evidence}`);
    this.#former.push(old);
    this.takeovers++;
    this.ledger.ended(pid, old.output);
    const answers = async (): Promise<boolean> => (await this.status().catch(() => undefined))?.pid === next.pid;
    await until('the next agent answers', answers, { evidence: () => next.evidence });
    return undefined;
  }

  async close(): Promise<void> {
    if (this.node.daemon?.running === true) await this.node.daemon.stop();
  }

  get unexpectedEnds(): number {
    return this.node.running.running ? 0 : 1;
  }

  get log(): string {
    return [...this.#former, this.node.running].map(({ output }) => output).join('');
  }

  get control(): ControlClient {
    return new ControlClient(this.node.running.controlSocket);
  }
}

function courseOf(values: readonly number[]): Course {
  return { start: values[0] ?? 0, end: values.at(-1) ?? 0, most: Math.max(0, ...values) };
}
