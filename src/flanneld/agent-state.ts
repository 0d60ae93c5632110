import type { RunningBackend } from '../backend/backend.js';
import type { TapSource } from '../backend/tap-source.js';
import type { ExternalInterface } from '../host/external-interface.js';
import { readQueueDrops, type QueueDrops } from '../host/queue-drops.js';
import type { PacketQuestion } from '../backend/explain.js';
import { explainAnswer } from '../observe/explain-answer.js';
import type {
  ConcernAnswer,
  ConcernId,
  ExplainAnswer,
  LeaseAnswer,
  ProbeStatistics,
  StatusAnswer,
} from '../observe/control-protocol.js';
import type { ControlSource } from '../observe/control-server.js';
import type { TapHubSource } from '../observe/tap-hub.js';
import type { HealthSource } from '../observe/health-server.js';
import type { MetricsSource } from '../observe/metrics.js';
import type { StoreStatistics } from '../observe/store-statistics.js';
import { formatIpv4, formatPrefix, prefixContains, prefixesEqual, type Ipv4Prefix } from '../packet/address.js';
import type { Lease } from '../subnet/lease.js';
import type { NetworkConfig } from '../subnet/network-config.js';
import { VERSION } from '../version.js';
import type { FlanneldOptions } from './flags.js';
import type { KnownLeases } from './known-leases.js';
import { workerConcern } from './worker-concern.js';

/** Why a running agent may be unready, the gravest first, and the step of its start that it is back at then. */
const UNREADY_STEPS = {
  /** The tunnel's address is gone. */
  interface: 'interface',
  /** The backend has failed. */
  backend: 'backend',
  /** The subnet went to another node, and this one is not settled in a new one yet. */
  subnet: 'lease',
  /** The lease has run out, as far as can be told from here. */
  lease: 'lease',
} as const satisfies Record<string, AgentPhase>;
export type UnreadyCause = keyof typeof UNREADY_STEPS;
const UNREADY_CAUSES = Object.keys(UNREADY_STEPS) as readonly UnreadyCause[];

export type AgentPhase = StatusAnswer['state'];

/** What the phases before readiness wait for, to people. */
const WAITING_FOR: Readonly<Record<AgentPhase, string>> = {
  configuration: 'waiting for the network configuration',
  interface: 'waiting for the external interface',
  lease: 'waiting for a subnet',
  backend: 'starting the backend',
  ready: 'ready',
  stopping: 'stopping',
};

/** Where an agent stands: written by its life, read by the control socket, the health server and the metrics. */
export class AgentState implements ControlSource, HealthSource, MetricsSource, TapHubSource {
  readonly version = VERSION;
  phase: AgentPhase = 'configuration';
  /** What holds start-up back, or troubles a running agent without making it unready. */
  reason: string | undefined;
  /** Times that this node's subnet was found in another node's hands. */
  leaseLosses = 0;
  config: NetworkConfig | undefined;
  external: ExternalInterface | undefined;
  publicIp: number | undefined;
  lease: Lease | undefined;
  runningBackend: RunningBackend | undefined;
  /** The subnet that this node lost last, and its pods may still have addresses of. */
  formerSubnet: Ipv4Prefix | undefined;
  /** What this agent does in the probes of others. */
  probes: { readonly statistics: ProbeStatistics } | undefined;

  readonly #unready = new Map<UnreadyCause, string>();
  readonly #concerns = new Map<ConcernId, ConcernAnswer>();
  readonly #options: FlanneldOptions;
  readonly #leases: KnownLeases;
  readonly #store: StoreStatistics;
  readonly #startedAt = new Date(Date.now() - process.uptime() * 1000).toISOString();

  constructor(options: FlanneldOptions, leases: KnownLeases, store: StoreStatistics) {
    this.#options = options;
    this.#leases = leases;
    this.#store = store;
  }

  /** What makes a running agent unready, by its cause; `undefined`: that is over. */
  setUnready(cause: UnreadyCause, reason: string | undefined): void {
    if (reason === undefined) this.#unready.delete(cause);
    else this.#unready.set(cause, reason);
  }

  isUnready(cause: UnreadyCause): boolean {
    return this.#unready.has(cause);
  }

  /** Something that lasts, and that somebody should see to, though the agent may be ready. */
  raiseConcern(id: ConcernId, message: string, remedy: string): void {
    const since = this.#concerns.get(id)?.since ?? new Date().toISOString();
    this.#concerns.set(id, { id, since, message, remedy });
  }

  /** What troubles it, whether or not it is ready. */
  trouble(): string | undefined {
    return this.notReadyReason() ?? this.#lasting().at(0)?.message;
  }

  clearConcern(id: ConcernId): void {
    this.#concerns.delete(id);
  }

  /** What was raised, and what the backend says of itself. */
  #lasting(): readonly ConcernAnswer[] {
    const ofWorkers = workerConcern(this.backend()?.workers ?? []);
    return [...this.#concerns.values(), ...(ofWorkers === undefined ? [] : [ofWorkers])];
  }

  /** One line on where the agent stands. */
  summary(): string {
    const waiting = WAITING_FOR[this.phase];
    if (this.phase === 'ready' && this.lease !== undefined && this.runningBackend !== undefined) {
      const where = `${formatPrefix(this.lease.subnet)} on ${this.runningBackend.deviceName}`;
      const trouble = this.#obstacle() ?? this.reason ?? this.#lasting().at(0)?.message;
      return trouble === undefined ? where : `${where}; ${trouble}`;
    }
    return this.reason === undefined ? waiting : `${waiting}: ${this.reason}`;
  }

  notReadyReason(): string | undefined {
    return this.phase === 'ready' ? this.#obstacle() : this.summary();
  }

  /** The gravest of what makes a running agent unready. */
  #obstacle(): string | undefined {
    return UNREADY_CAUSES.map((cause) => this.#unready.get(cause)).find((reason) => reason !== undefined);
  }

  status(): StatusAnswer {
    const { config, external } = this;
    const lease = this.#heldLease();
    return {
      version: VERSION,
      pid: process.pid,
      startedAt: this.#startedAt,
      state: this.#step(),
      reason: this.#obstacle() ?? this.reason,
      concerns: this.#lasting(),
      network: config && {
        cidr: formatPrefix(config.network),
        subnetLength: config.subnetLength,
        backend: config.backend.type,
      },
      lease: lease && leaseAnswer(lease, true),
      interface: external && {
        name: external.name,
        address: formatIpv4(external.address),
        mtu: external.mtuBytes,
      },
      publicIP: this.publicIp === undefined ? undefined : formatIpv4(this.publicIp),
      subnetFile: this.#options.subnetFile,
      backend: this.backend(),
      store: this.#store.health(this.#options.etcd.endpoints, this.#options.etcd.prefix),
      probes: this.probes?.statistics,
    };
  }

  /** The step that readiness waits for: a running agent that has become unready is back at an earlier one. */
  #step(): AgentPhase {
    if (this.phase !== 'ready') return this.phase;
    const cause = UNREADY_CAUSES.find((candidate) => this.isUnready(candidate));
    return cause === undefined ? 'ready' : UNREADY_STEPS[cause];
  }

  /** A lost one has no expiry to tell, though the pods go on with its addresses. */
  #heldLease(): Lease | undefined {
    return this.isUnready('subnet') ? undefined : this.lease;
  }

  /** The leases of all nodes by subnet; of this node's own the expiry is known. */
  *leaseAnswers(): Generator<LeaseAnswer> {
    const leases = [...this.#leases.values()].sort((a, b) => a.subnet.address - b.subnet.address);
    for (const lease of leases) yield this.#leaseAnswer(lease);
  }

  #leaseAnswer(lease: Lease): LeaseAnswer {
    const own = this.lease;
    const mine = own !== undefined && prefixesEqual(own.subnet, lease.subnet) && own.publicIp === lease.publicIp;
    return mine ? leaseAnswer(own, true) : leaseAnswer(lease, false);
  }

  explain(question: PacketQuestion): ExplainAnswer | undefined {
    const { config, lease, runningBackend } = this;
    if (config === undefined || lease === undefined || runningBackend === undefined) return undefined;
    const leases = [...this.#leases.values()];
    return explainAnswer(question, runningBackend.explain(question, leases), {
      network: config.network,
      subnet: lease.subnet,
      sourceCheck: this.#options.sourceCheck,
      publicIp: this.publicIp ?? 0,
      leaseOf: (address, owner) => {
        const covering = leases.filter(({ subnet, publicIp }) => publicIp === owner && prefixContains(subnet, address));
        const longest = covering.sort((a, b) => b.subnet.length - a.subnet.length).at(0);
        return longest && this.#leaseAnswer(longest);
      },
    });
  }

  async queueDrops(): Promise<QueueDrops | undefined> {
    const backend = this.backend();
    if (backend === undefined || this.external === undefined) return undefined;
    const { device, port } = backend;
    return readQueueDrops({ device, port, address: this.external.address }).catch(() => undefined);
  }

  backend(): ReturnType<RunningBackend['status']> | undefined {
    return this.runningBackend?.status();
  }

  tapSource(): TapSource | undefined {
    return this.runningBackend?.tap;
  }

  tapNode(): { node: string; externalInterface: string } {
    const node = this.publicIp === undefined ? '' : formatIpv4(this.publicIp);
    return { node, externalInterface: this.external?.name ?? '' };
  }

  leasesLost(): number {
    return this.leaseLosses;
  }

  leases(): number {
    return this.#leases.size;
  }

  leaseExpiresAtMs(): number | undefined {
    const lease = this.#heldLease();
    return lease?.reserved === true ? Infinity : lease?.expiresAtMs;
  }

  storeRequests(): ReturnType<StoreStatistics['requests']> {
    return this.#store.requests();
  }

  storeWatchRestarts(): number {
    return this.#store.watchRestarts;
  }

  storeSkippedKeys(): number {
    return this.#store.skipped;
  }
}

function leaseAnswer(lease: Lease, own: boolean): LeaseAnswer {
  return {
    subnet: formatPrefix(lease.subnet),
    publicIP: formatIpv4(lease.publicIp),
    reserved: lease.reserved,
    expires: lease.expiresAtMs === undefined ? null : new Date(lease.expiresAtMs).toISOString(),
    backendType: lease.backendType === '' ? 'udp' : lease.backendType,
    own,
  };
}
