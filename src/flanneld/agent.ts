/**
 * The life of an agent, from top to bottom: configuration → interface → lease → backend → firewall → subnet.env →
 * ready → renew and watch → stop.
 *
 * What a running agent is built on may go: its subnet to another node, its address from this host. Then the middle of the
 * course is gone through again, from the configuration to readiness, while packets flow as before for as long as it takes.
 *
 * Where an earlier run has left a snapshot of what the store told it, packets flow by that before the store is asked, and
 * the store's answers correct it.
 *
 * What may be repaired while it runs is waited for: the configuration, the interface, a free subnet and the store are
 * tried again, together and from the beginning, until all of them are there, since the repair of one (a wider network)
 * may be what another needs. What this host refuses for good, such as a device that may not be opened, ends the agent
 * with one line; its service manager starts it again.
 */
import { setMaxListeners } from 'node:events';

import type { Backend, BackendOptions, RunningBackend } from '../backend/backend.js';
import type { DescriptorStore } from '../backend/descriptor-store.js';
import { childAbort, type ChildAbort } from '../child-abort.js';
import { pause, type Clock } from '../clock.js';
import { FlannelError, MisfitError, type ErrorCode } from '../errors.js';
import type { RunCommand } from '../host/command.js';
import type { ExternalInterface } from '../host/external-interface.js';
import type { Logger } from '../log.js';
import type { ServiceNotifier } from '../observe/sd-notify.js';
import { formatIpv4, formatPrefix, type Ipv4Prefix } from '../packet/address.js';
import { ReasonReporter } from '../reason-reporter.js';
import type { NetworkConfig } from '../subnet/network-config.js';
import type { SubnetManager } from '../subnet/subnet-manager.js';
import { untilAddressMoves } from './address-watch.js';
import type { AgentPhase, AgentState, UnreadyCause } from './agent-state.js';
import { watchConfigChanges } from './config-watch.js';
import type { FlanneldOptions } from './flags.js';
import { bringUp, keepBackend } from './keep-backend.js';
import { keepOwnLease, leaseFields } from './own-lease.js';
import type { KnownLeases } from './known-leases.js';
import type { NodeHost } from './node-host.js';
import type { Predecessor } from './handover.js';
import { isAbort, persist, within } from './persistence.js';
import { describe, difference, leaseRequest, refuseLoop, type Plan } from './plan.js';
import type { SnapshotFile } from './snapshot-file.js';

/** What an agent is made of; `run-agent.ts` puts the real ones together. */
export interface AgentParts {
  readonly options: FlanneldOptions;
  readonly logger: Logger;
  readonly manager: SubnetManager;
  readonly leases: KnownLeases;
  readonly state: AgentState;
  readonly host: NodeHost;
  readonly notifier: ServiceNotifier | undefined;
  readonly clock: Clock;
  /** From 0 to 1; spreads what many nodes do at once. */
  readonly random?: () => number;
  readonly snapshots: Pick<SnapshotFile, 'read' | 'follow' | 'changed' | 'flush'>;
  /** Lets others ask this agent. Called once packets flow, or when they cannot before the store has answered. */
  readonly serve?: () => Promise<void>;
  /** Takes part in the probes of other nodes, from readiness on. */
  readonly responder?: { run(signal: AbortSignal): Promise<void> };
  /** Where descriptors outlive this process, if somebody keeps them. */
  readonly descriptors?: DescriptorStore;
  /** How this machine is asked what it has, until `serve` is called; by default each time anew. */
  readonly run?: RunCommand;
  /** The running agent that is to make room for this one. */
  readonly predecessor?: Pick<Predecessor, 'makeRoom' | 'running' | 'gone' | 'ended' | 'leave'>;
  /** @throws NetworkConfigError for a type that is not known */
  backendOfType(type: string): Promise<Backend>;
}

/** What start-up waits for rather than fails on. */
const REPAIRABLE: ReadonlySet<ErrorCode> = new Set(['CONFIG', 'STORE', 'LEASE', 'INTERFACE', 'BACKEND']);

const LOST_SUBNET_REMEDY =
  "make the bridge anew with subnet.env's FLANNEL_SUBNET and start its pods again (Docker: flannelctl docker-opts)";

/** The backend's workers get this long to stop. */
const BACKEND_STOP_MS = 500;

/** The snapshot gets as long to be written at the end. */
const SNAPSHOT_WRITE_MS = 200;

/** Why a plan has come to its end. */
interface Change {
  /** What makes the agent unready until the next one is carried out. */
  readonly cause: Extract<UnreadyCause, 'subnet' | 'interface'>;
  readonly reason: string;
}

/** What a plan is made for: the start, or a change. */
interface Occasion {
  previousSubnet(): Promise<Ipv4Prefix | undefined>;
  readonly formerPublicIp?: number;
  entering(step: AgentPhase): void;
  /** Answers what is to be said. */
  failed(step: AgentPhase, error: FlannelError): string;
}

/** A backend that runs by what an earlier run knew. */
interface Resumed {
  readonly plan: Plan;
  readonly running: RunningBackend;
}

/** One life of the daemon, from the first look at what an earlier run left to the last thing that it takes down. */
export class Agent {
  readonly #parts: AgentParts;
  readonly #options: FlanneldOptions;
  readonly #logger: Logger;
  readonly #state: AgentState;
  /** Ends everything that runs beside the main course: with the stop, or with the failure of one of them. */
  readonly #life = new AbortController();
  #watching: { readonly config: string; readonly abort: () => void } | undefined;
  #wasReady = false;
  /** The configuration under which the known leases are those of an earlier run. */
  #remembered: string | undefined;

  constructor(parts: AgentParts) {
    this.#parts = parts;
    this.#options = parts.options;
    this.#logger = parts.logger;
    this.#state = parts.state;
    // Every call under way listens to it.
    setMaxListeners(0, this.#life.signal);
  }

  /**
   * Lives until `stop` aborts, and resolves then.
   * @throws FlannelError when this host does not let it go on
   */
  async run(stop: AbortSignal): Promise<void> {
    const end = (): void => this.#life.abort(stop.reason);
    stop.addEventListener('abort', end);
    if (stop.aborted) end();
    try {
      const resumed = await this.#resume();
      await (resumed === undefined ? this.#parts.predecessor?.leave() : this.#parts.predecessor?.ended());
      await this.#parts.serve?.();
      let plan = await this.#prepare(this.#start);
      this.#enter('backend');
      for (const warning of await this.#parts.host.warnings()) this.#logger.warn(warning);
      let service = this.#serve(plan, await this.#backendFor(plan, resumed));
      this.#beside(watchConfigChanges({ ...this.#parts, signal: this.#life.signal }));
      for (;;) {
        const change = await this.#untilChange(plan);
        const next = await this.#prepare(this.#onward(plan, change));
        if (this.#differs(plan, next, change)) {
          await service.end();
          service = this.#serve(next);
        }
        plan = next;
      }
    } catch (error) {
      // What fails while everything is being ended is no news.
      if (!stop.aborted) throw this.#life.signal.aborted ? this.#life.signal.reason : error;
    } finally {
      stop.removeEventListener('abort', end);
      await this.#stop();
    }
  }

  /**
   * Goes on where the last run left off, by what it knew: packets flow before the store is asked. `undefined` where
   * nothing is known of it, or what is known does not fit this host any more.
   */
  async #resume(): Promise<Resumed | undefined> {
    const snapshot = await this.#parts.snapshots.read(this.#options.etcd.prefix);
    if (snapshot === undefined) return undefined;
    const { config, own: lease, leases } = snapshot;
    try {
      const backend = await this.#parts.backendOfType(config.backend.type);
      const { external, publicIp } = await this.#underlayFor(config, backend);
      if (lease.publicIp !== publicIp) {
        throw new MisfitError(`it is of the node ${formatIpv4(lease.publicIp)}, and this is ${formatIpv4(publicIp)}`);
      }
      this.#remembered = describe(config);
      this.#parts.leases.remember(leases);
      this.#logger.info('going on as the last run knew the network, until the store answers', {
        leases: leases.length,
      });
      const plan = { config, backend, external, request: leaseRequest(publicIp, backend, lease.subnet), lease };
      const running = await this.#startBackend(plan, this.#life.signal, this.#parts.predecessor);
      this.#state.lease = lease;
      return { plan, running };
    } catch (error) {
      // A running agent that does not make room goes on, and is not to be disturbed.
      if (!(error instanceof FlannelError) || error.code === 'CONTROL') throw error;
      // Nor is it to end for one that something else than what it hands over keeps from starting.
      if (this.#parts.predecessor?.gone === false && !(error instanceof MisfitError))
        throw new FlannelError('CONTROL', `cannot take over from the running flanneld: ${error.message}`);
      this.#logger.warn(`the snapshot of the last run is not used: ${error.message}`);
      return undefined;
    }
  }

  /** The backend that runs already, where the store has confirmed what it runs by; else a new one. */
  async #backendFor(plan: Plan, resumed: Resumed | undefined): Promise<RunningBackend> {
    if (resumed === undefined) return this.#startBackend(plan);
    const change = difference(resumed.plan, plan);
    if (change === undefined) return resumed.running;
    this.#logger.warn(`${change} since the last run: the backend is started again`);
    await resumed.running.stop();
    return this.#startBackend(plan);
  }

  /** Ends with the lease, or with the address that the tunnel is bound to. */
  async #untilChange({ lease, external }: Plan): Promise<Change> {
    const over = childAbort(this.#life.signal);
    const { signal } = over;
    const changes = [
      keepOwnLease({ ...this.#parts, lease, signal }).then((reason): Change => ({ cause: 'subnet', reason })),
      untilAddressMoves({ ...this.#parts, external, signal }).then((reason): Change => ({
        cause: 'interface',
        reason,
      })),
    ];
    try {
      return await Promise.race(changes);
    } finally {
      over.abort();
      await Promise.allSettled(changes);
    }
  }

  /** What a running agent needs a new plan for. */
  #onward(plan: Plan, { cause, reason }: Change): Occasion {
    if (cause === 'subnet') this.#state.leaseLosses++;
    this.#state.setUnready(cause, reason);
    this.#parts.notifier?.status(this.#state.summary());
    this.#logger.error(`${reason}; packets flow on as before until this node has a new place`);
    return {
      previousSubnet: () => Promise.resolve(plan.lease.subnet),
      formerPublicIp: plan.request.publicIp,
      entering: () => undefined,
      failed: (_step, error) => {
        this.#state.setUnready(cause, `${reason}; no new place yet: ${error.message}`);
        this.#parts.notifier?.status(this.#state.summary());
        return this.#state.summary();
      },
    };
  }

  /** Whether the next plan needs another backend; says what has become of this node. */
  #differs(plan: Plan, next: Plan, { cause, reason }: Change): boolean {
    const change = difference(plan, next);
    this.#state.setUnready('lease', undefined);
    if (change === undefined) {
      this.#state.setUnready(cause, undefined);
      this.#parts.notifier?.status(this.#state.summary());
      this.#logger.info('lease taken back', leaseFields(next.lease));
      return false;
    }
    this.#logger.warn(`${change}: the backend is started again`);
    const [before, now] = [plan, next].map(({ lease }) => formatPrefix(lease.subnet));
    if (before !== now) {
      const message = `${reason}; this node has ${now} now, and pods with addresses of ${before} are cut off from other nodes`;
      this.#state.formerSubnet = plan.lease.subnet;
      this.#state.raiseConcern('lost-subnet', message, LOST_SUBNET_REMEDY);
      this.#logger.error(`${message}; ${LOST_SUBNET_REMEDY}`);
    }
    return true;
  }

  /** The occasion of a start. */
  readonly #start: Occasion = {
    previousSubnet: () => this.#parts.host.previousSubnet(),
    entering: (step) => {
      if (this.#state.reason === undefined) this.#enter(step);
    },
    failed: (step, error) => {
      this.#trouble(step, error);
      return this.#state.summary();
    },
  };

  /** Configuration, interface and lease: tried together until all three are there. */
  async #prepare(occasion: Occasion): Promise<Plan> {
    const reasons = new ReasonReporter((reason) => this.#logger.warn(reason));
    let step: AgentPhase = 'configuration';
    const plan = await persist(
      async () => {
        const enter = (next: AgentPhase): void => {
          step = next;
          occasion.entering(next);
        };
        enter('configuration');
        const config = await this.#parts.manager.networkConfig(this.#life.signal);
        const backend = await this.#parts.backendOfType(config.backend.type);

        enter('interface');
        const { external, publicIp } = await this.#underlayFor(config, backend);

        enter('lease');
        this.#watchLeases(config);
        const request = leaseRequest(publicIp, backend, await occasion.previousSubnet(), occasion.formerPublicIp);
        const lease = await this.#parts.manager.acquireLease(config, request, this.#life.signal);
        return { config, backend, external, request, lease };
      },
      {
        clock: this.#parts.clock,
        random: this.#parts.random,
        signal: this.#life.signal,
        transient: REPAIRABLE,
        // A configuration that does not fit this node is noticed late, but it is the configuration that must change.
        onFailure: (error) => reasons.report(occasion.failed(error.code === 'CONFIG' ? 'configuration' : step, error)),
      },
    );
    this.#state.reason = undefined;
    this.#state.lease = plan.lease;
    this.#logger.debug('lease taken', leaseFields(plan.lease));
    return plan;
  }

  /** The interface to send by, fit for the network, and the address that others reach it at. */
  async #underlayFor(
    config: NetworkConfig,
    backend: Backend,
  ): Promise<{ readonly external: ExternalInterface; readonly publicIp: number }> {
    const external = await this.#parts.host.chooseInterface();
    const publicIp = this.#options.underlay.publicIp ?? external.address;
    backend.validate(config, external);
    this.#parts.host.checkInterface(external, config);
    refuseLoop(config, publicIp);
    this.#learnConfig(config);
    this.#learnInterface(external, publicIp);
    return { external, publicIp };
  }

  /** Carries a plan out beside the main course, on a backend that runs already or on a new one, until it is told to end. */
  #serve(plan: Plan, running?: RunningBackend): { end(): Promise<void> } {
    const over = childAbort(this.#life.signal);
    const work = this.#carryOut(plan, running, over);
    this.#beside(work, over.signal);
    return {
      end: async () => {
        over.abort(new Error('the plan has changed'));
        await work.catch(() => undefined);
        await this.#state.runningBackend?.stop();
      },
    };
  }

  async #carryOut(plan: Plan, running: RunningBackend | undefined, over: ChildAbort): Promise<void> {
    const { signal } = over;
    const options = { ...this.#parts, start: () => this.#startBackend(plan, signal), signal };
    const backend = running ?? (await bringUp(options));
    this.#state.setUnready('interface', undefined);
    const tasks = [keepBackend(backend, options), this.#settleAndKeepRules(plan, backend, signal)];
    try {
      await Promise.all(tasks);
    } finally {
      over.abort();
      await Promise.allSettled(tasks);
    }
  }

  async #settleAndKeepRules(plan: Plan, backend: RunningBackend, signal: AbortSignal): Promise<void> {
    await this.#settleIn(plan, backend, signal);
    this.#ready(plan, backend);
    await this.#keepRules(plan, signal);
  }

  async #startBackend(
    { config, backend, external, request, lease }: Plan,
    signal: AbortSignal = this.#life.signal,
    predecessor?: BackendOptions['predecessor'],
  ): Promise<RunningBackend> {
    const running = await backend.start({
      config,
      external,
      publicIp: request.publicIp,
      lease,
      leases: [...this.#parts.leases.values()],
      networkId: this.#options.etcd.prefix,
      mtuBytes: this.#options.mtuBytes,
      workers: this.#options.workers,
      disabledOffloads: this.#options.disabledOffloads,
      sourceCheck: this.#options.sourceCheck,
      trustedSources: this.#options.trustedSources,
      descriptors: this.#parts.descriptors,
      run: this.#parts.run,
      predecessor,
      logger: this.#logger,
    });
    if (signal.aborted) await running.stop();
    signal.throwIfAborted();
    this.#state.runningBackend = running;
    this.#parts.leases.attach(running);
    this.#logger.info('packets flow', {
      device: running.deviceName,
      mtu: running.mtuBytes,
      port: config.backend.port,
      backend: backend.type,
    });
    return running;
  }

  /** Firewall rules, routes and subnet.env: tried until they are in place. Packets flow meanwhile. */
  async #settleIn({ config, lease }: Plan, backend: RunningBackend, signal: AbortSignal): Promise<void> {
    const reasons = new ReasonReporter((reason) => this.#logger.error(reason));
    await persist(
      async () => {
        await this.#parts.host.ensureRules(config, lease);
        await this.#parts.host.writeSubnetFile(config, lease, backend.mtuBytes);
      },
      {
        clock: this.#parts.clock,
        random: this.#parts.random,
        signal,
        transient: new Set<ErrorCode>(['HOST']),
        onFailure: (error) => {
          this.#trouble('backend', error);
          reasons.report(`not ready: ${error.message}`);
        },
      },
    );
    this.#state.reason = undefined;
  }

  #ready(plan: Plan, backend: RunningBackend): void {
    const first = !this.#wasReady;
    this.#wasReady = true;
    this.#state.phase = 'ready';
    this.#state.setUnready('subnet', undefined);
    if (first) this.#parts.notifier?.ready(this.#state.summary());
    else this.#parts.notifier?.status(this.#state.summary());
    this.#logger.info(first ? 'ready' : 'ready again', {
      subnet: formatPrefix(plan.lease.subnet),
      device: backend.deviceName,
      leases: this.#parts.leases.size,
      subnetFile: this.#options.subnetFile,
    });
    if (!first) return;
    this.#keepSnapshot();
    if (this.#parts.responder !== undefined) this.#beside(this.#parts.responder.run(this.#life.signal));
  }

  /** From here on what the store tells is kept for the next start. */
  #keepSnapshot(): void {
    const { leases, snapshots } = this.#parts;
    leases.observe(() => snapshots.changed());
    snapshots.follow(() => {
      const { config, lease: own } = this.#state;
      if (config === undefined || own === undefined || !leases.whole) return undefined;
      return { prefix: this.#options.etcd.prefix, config, own, leases: [...leases.values()] };
    });
  }

  /** Puts back the rules that others remove. */
  async #keepRules({ config, lease }: Plan, signal: AbortSignal): Promise<void> {
    const reasons = new ReasonReporter((reason) => this.#logger.warn(reason));
    const everyMs = this.#options.firewall.resyncSeconds * 1000;
    for (;;) {
      await pause(this.#parts.clock, everyMs, signal);
      if (signal.aborted) return;
      try {
        await this.#parts.host.ensureRules(config, lease);
        reasons.clear();
      } catch (error) {
        if (!(error instanceof FlannelError)) throw error;
        reasons.report(`firewall rules could not be checked: ${error.message}`);
      }
    }
  }

  /** Follows the leases of all nodes in the background, under the configuration as it is now. */
  #watchLeases(config: NetworkConfig): void {
    const shown = describe(config);
    if (this.#watching?.config === shown) return;
    this.#watching?.abort();
    if (this.#remembered !== shown) this.#parts.leases.clear();
    this.#remembered = undefined;
    const over = childAbort(this.#life.signal);
    this.#watching = { config: shown, abort: () => over.abort() };
    this.#beside(this.#parts.manager.watchLeases(config, this.#parts.leases, over.signal));
  }

  /** Lets work go on beside the main course; its failure ends the agent. */
  #beside(work: Promise<void>, signal: AbortSignal = this.#life.signal): void {
    work.catch((error: unknown) => {
      if (!isAbort(error, signal)) this.#life.abort(error);
    });
  }

  async #stop(): Promise<void> {
    const { manager, notifier, snapshots } = this.#parts;
    this.#state.phase = 'stopping';
    notifier?.stopping();
    this.#life.abort();
    const backend = this.#state.runningBackend;
    if (backend !== undefined) await within(BACKEND_STOP_MS, backend.stop());
    await within(SNAPSHOT_WRITE_MS, snapshots.flush());
    manager.close();
  }

  #enter(phase: AgentPhase): void {
    this.#state.phase = phase;
    this.#parts.notifier?.status(this.#state.summary());
  }

  #trouble(phase: AgentPhase, error: FlannelError): void {
    this.#state.reason = error.message;
    this.#enter(phase);
  }

  #learnConfig(config: NetworkConfig): void {
    const before = this.#state.config;
    this.#state.config = config;
    this.#state.clearConcern('configuration');
    if (before !== undefined && describe(before) === describe(config)) return;
    this.#logger.info('network configuration', {
      network: formatPrefix(config.network),
      subnetLength: config.subnetLength,
      subnets: `${formatIpv4(config.subnetMin)}-${formatIpv4(config.subnetMax)}`,
      backend: config.backend.type,
      port: config.backend.port,
    });
  }

  #learnInterface(external: ExternalInterface, publicIp: number): void {
    const before = this.#state.external;
    this.#state.external = external;
    this.#state.publicIp = publicIp;
    if (before?.index === external.index && before.address === external.address) return;
    this.#logger.info('external interface', {
      name: external.name,
      address: formatIpv4(external.address),
      publicIP: formatIpv4(publicIp),
      mtu: external.mtuBytes,
    });
  }
}
