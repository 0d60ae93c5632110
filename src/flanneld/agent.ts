/**
 * The life of an agent, from top to bottom: configuration → interface → lease → backend → firewall → subnet.env →
 * ready → renew and watch → stop.
 *
 * Where an earlier run has left a snapshot of what the store told it, packets flow by that before the store is asked, and
 * the store's answers correct it.
 *
 * What may be repaired while it runs is waited for: the configuration, the interface, a free subnet and the store are
 * tried again, together and from the beginning, until all of them are there, since the repair of one (a wider network)
 * may be what another needs. What this host refuses for good, such as a device that may not be opened, ends the agent
 * with one line; its service manager starts it again.
 */
import { once, setMaxListeners } from 'node:events';

import type { Backend, RunningBackend } from '../backend/backend.js';
import { FlannelError, NetworkConfigError, type ErrorCode } from '../errors.js';
import type { ExternalInterface } from '../host/external-interface.js';
import type { Logger } from '../log.js';
import type { ServiceNotifier } from '../observe/sd-notify.js';
import { formatIpv4, formatPrefix, prefixContains, prefixesEqual, type Ipv4Prefix } from '../packet/address.js';
import { ReasonReporter } from '../reason-reporter.js';
import type { Lease } from '../subnet/lease.js';
import type { NetworkConfig } from '../subnet/network-config.js';
import type { LeaseRequest, SubnetManager } from '../subnet/subnet-manager.js';
import type { AgentPhase, AgentState } from './agent-state.js';
import type { FlanneldOptions } from './flags.js';
import { keepBackend } from './keep-backend.js';
import { keepOwnLease, leaseFields } from './own-lease.js';
import type { KnownLeases } from './known-leases.js';
import { isAbort, persist, within } from './persistence.js';
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
  readonly snapshots: Pick<SnapshotFile, 'read' | 'follow' | 'changed' | 'flush'>;
  /** Takes part in the probes of other nodes, from readiness on. */
  readonly responder?: { run(signal: AbortSignal): Promise<void> };
  /** @throws NetworkConfigError for a type that is not known */
  backendOfType(type: string): Promise<Backend>;
}

/** What an agent does to the machine it runs on, beside the backend. */
export interface NodeHost {
  /** @throws FlannelError `INTERFACE` when none fits */
  chooseInterface(): Promise<ExternalInterface>;
  /** @throws FlannelError `INTERFACE` when datagrams from this interface would enter the tunnel again */
  checkInterface(external: ExternalInterface, config: NetworkConfig): void;
  /** The subnet of an earlier run, if it can be told. */
  previousSubnet(): Promise<Ipv4Prefix | undefined>;
  /** Firewall rules and routes of this node's subnet, as the flags ask for them; called again and again. */
  ensureRules(config: NetworkConfig, lease: Lease): Promise<void>;
  writeSubnetFile(config: NetworkConfig, lease: Lease, mtuBytes: number): Promise<void>;
  /** What an operator should know about this machine before packets are to flow, one line each. */
  warnings(): Promise<readonly string[]>;
}

/** What start-up waits for rather than fails on. */
const REPAIRABLE: ReadonlySet<ErrorCode> = new Set(['CONFIG', 'STORE', 'LEASE', 'INTERFACE', 'BACKEND']);

/** The backend's workers get this long to stop. */
const BACKEND_STOP_MS = 500;

/** The snapshot gets as long to be written at the end. */
const SNAPSHOT_WRITE_MS = 200;

/** What start-up has found, before anything on this host is changed. */
interface Plan {
  readonly config: NetworkConfig;
  readonly backend: Backend;
  readonly external: ExternalInterface;
  readonly request: LeaseRequest;
  readonly lease: Lease;
}

/** A backend that runs by what an earlier run knew. */
interface Resumed {
  readonly plan: Plan;
  readonly running: RunningBackend;
}

export class Agent {
  readonly #parts: AgentParts;
  readonly #options: FlanneldOptions;
  readonly #logger: Logger;
  readonly #state: AgentState;
  /** Ends everything that runs beside the main course: with the stop, or with the failure of one of them. */
  readonly #life = new AbortController();
  #watching: { readonly config: string; readonly end: AbortController } | undefined;
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
      const plan = await this.#prepare();
      this.#enter('backend');
      for (const warning of await this.#parts.host.warnings()) this.#logger.warn(warning);
      const backend = await this.#backendFor(plan, resumed);
      this.#beside(
        keepBackend({
          ...this.#parts,
          running: backend,
          start: () => this.#startBackend(plan),
          signal: this.#life.signal,
        }),
      );
      this.#beside(keepOwnLease({ ...this.#parts, ...plan, signal: this.#life.signal, transient: REPAIRABLE }));
      await this.#settleIn(plan, backend);
      this.#ready(plan, backend);
      await aborted(this.#life.signal);
      this.#life.signal.throwIfAborted();
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
        throw new FlannelError(
          'LEASE',
          `it is of the node ${formatIpv4(lease.publicIp)}, and this is ${formatIpv4(publicIp)}`,
        );
      }
      this.#remembered = describe(config);
      this.#parts.leases.remember(leases);
      this.#logger.info('going on as the last run knew the network, until the store answers', {
        leases: leases.length,
      });
      const plan = { config, backend, external, request: leaseRequest(publicIp, backend, lease.subnet), lease };
      const running = await this.#startBackend(plan);
      this.#state.lease = lease;
      return { plan, running };
    } catch (error) {
      if (!(error instanceof FlannelError)) throw error;
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

  /** Configuration, interface and lease: tried together until all three are there. */
  async #prepare(): Promise<Plan> {
    const reasons = new ReasonReporter((reason) => this.#logger.warn(reason));
    let step: AgentPhase = 'configuration';
    const plan = await persist(
      async () => {
        const enter = (next: AgentPhase): void => {
          step = next;
          if (this.#state.reason === undefined) this.#enter(next);
        };
        enter('configuration');
        const config = await this.#parts.manager.networkConfig(this.#life.signal);
        const backend = await this.#parts.backendOfType(config.backend.type);

        enter('interface');
        const { external, publicIp } = await this.#underlayFor(config, backend);

        enter('lease');
        this.#watchLeases(config);
        const request = leaseRequest(publicIp, backend, await this.#parts.host.previousSubnet());
        const lease = await this.#parts.manager.acquireLease(config, request, this.#life.signal);
        return { config, backend, external, request, lease };
      },
      {
        signal: this.#life.signal,
        transient: REPAIRABLE,
        onFailure: (error) => {
          // A configuration that does not fit this node is noticed late, but it is the configuration that must change.
          this.#trouble(error.code === 'CONFIG' ? 'configuration' : step, error);
          reasons.report(this.#state.summary());
        },
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

  async #startBackend({ config, backend, external, request, lease }: Plan): Promise<RunningBackend> {
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
      logger: this.#logger,
    });
    if (this.#life.signal.aborted) await running.stop();
    this.#life.signal.throwIfAborted();
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
  async #settleIn({ config, lease }: Plan, backend: RunningBackend): Promise<void> {
    const reasons = new ReasonReporter((reason) => this.#logger.error(reason));
    await persist(
      async () => {
        await this.#parts.host.ensureRules(config, lease);
        await this.#parts.host.writeSubnetFile(config, lease, backend.mtuBytes);
      },
      {
        signal: this.#life.signal,
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
    this.#state.phase = 'ready';
    this.#parts.notifier?.ready(this.#state.summary());
    this.#logger.info('ready', {
      subnet: formatPrefix(plan.lease.subnet),
      device: backend.deviceName,
      leases: this.#parts.leases.size,
      subnetFile: this.#options.subnetFile,
    });
    this.#beside(this.#keepRules(plan));
    this.#keepSnapshot();
    if (this.#parts.responder !== undefined) this.#beside(this.#parts.responder.run(this.#life.signal));
  }

  /** From here on what the store tells is kept for the next start. */
  #keepSnapshot(): void {
    const { leases, snapshots } = this.#parts;
    leases.observe(() => snapshots.changed());
    snapshots.follow(() => {
      const { config, lease: own } = this.#state;
      if (config === undefined || own === undefined || !leases.complete) return undefined;
      return { prefix: this.#options.etcd.prefix, config, own, leases: [...leases.values()] };
    });
  }

  /** Puts back the rules that others remove. */
  async #keepRules({ config, lease }: Plan): Promise<void> {
    const reasons = new ReasonReporter((reason) => this.#logger.warn(reason));
    const everyMs = this.#options.firewall.resyncSeconds * 1000;
    while (await pause(everyMs, this.#life.signal)) {
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
    this.#watching?.end.abort();
    if (this.#remembered !== shown) this.#parts.leases.clear();
    this.#remembered = undefined;
    const end = new AbortController();
    this.#watching = { config: shown, end };
    this.#life.signal.addEventListener('abort', () => end.abort(), { once: true, signal: end.signal });
    this.#beside(this.#parts.manager.watchLeases(config, this.#parts.leases, end.signal));
  }

  /** Lets work go on beside the main course; its failure ends the agent. */
  #beside(work: Promise<void>): void {
    work.catch((error: unknown) => {
      if (!isAbort(error, this.#life.signal)) this.#life.abort(error);
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

/** What other nodes send to an address inside the network would enter their tunnels again. */
function refuseLoop(config: NetworkConfig, publicIp: number): void {
  if (!prefixContains(config.network, publicIp)) return;
  throw new NetworkConfigError(
    `Network ${formatPrefix(config.network)} contains ${formatIpv4(publicIp)}, the address that other nodes are to send ` +
      'to (--public-ip): choose one apart from the other',
  );
}

function leaseRequest(publicIp: number, backend: Backend, previousSubnet: Ipv4Prefix | undefined): LeaseRequest {
  return { publicIp, publicIpv6: null, ...backend.leaseAttributes(), previousSubnet };
}

/** What of that which a backend is made for differs, for a log line; `undefined` when nothing does. */
function difference(before: Plan, now: Plan): string | undefined {
  if (describe(before.config) !== describe(now.config)) return 'the network configuration has changed';
  if (describe(before.external) !== describe(now.external)) return 'the external interface has changed';
  if (!prefixesEqual(before.lease.subnet, now.lease.subnet)) {
    return `the subnet has changed from ${formatPrefix(before.lease.subnet)} to ${formatPrefix(now.lease.subnet)}`;
  }
  return before.request.publicIp === now.request.publicIp ? undefined : 'the public address has changed';
}

/** As text, to tell whether it has changed. */
function describe(config: NetworkConfig | ExternalInterface): string {
  return JSON.stringify(config, (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
}

/** Waits; false when the wait was cut short by the end. */
async function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return false;
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      resolve(false);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', end);
      resolve(true);
    }, ms);
    signal.addEventListener('abort', end, { once: true });
  });
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort');
}
