/**
 * The life of an agent, from top to bottom: configuration → interface → lease → backend → firewall → subnet.env →
 * ready → renew and watch → stop.
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
import { formatIpv4, formatPrefix, prefixContains, type Ipv4Prefix } from '../packet/address.js';
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

/** What an agent is made of; `run-agent.ts` puts the real ones together. */
export interface AgentParts {
  readonly options: FlanneldOptions;
  readonly logger: Logger;
  readonly manager: SubnetManager;
  readonly leases: KnownLeases;
  readonly state: AgentState;
  readonly host: NodeHost;
  readonly notifier: ServiceNotifier | undefined;
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

/** What start-up has found, before anything on this host is changed. */
interface Plan {
  readonly config: NetworkConfig;
  readonly backend: Backend;
  readonly external: ExternalInterface;
  readonly request: LeaseRequest;
  readonly lease: Lease;
}

export class Agent {
  readonly #parts: AgentParts;
  readonly #options: FlanneldOptions;
  readonly #logger: Logger;
  readonly #state: AgentState;
  /** Ends everything that runs beside the main course: with the stop, or with the failure of one of them. */
  readonly #life = new AbortController();
  #watching: { readonly config: string; readonly end: AbortController } | undefined;

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
      const plan = await this.#prepare();
      this.#enter('backend');
      for (const warning of await this.#parts.host.warnings()) this.#logger.warn(warning);
      const backend = await this.#startBackend(plan);
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
        const external = await this.#parts.host.chooseInterface();
        const publicIp = this.#options.underlay.publicIp ?? external.address;
        backend.validate(config, external);
        this.#parts.host.checkInterface(external, config);
        refuseLoop(config, publicIp);
        this.#learnConfig(config);
        this.#learnInterface(external, publicIp);

        enter('lease');
        this.#watchLeases(config);
        const request = {
          publicIp,
          publicIpv6: null,
          ...backend.leaseAttributes(),
          previousSubnet: await this.#parts.host.previousSubnet(),
        };
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
    this.#parts.leases.clear();
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
    const { manager, notifier } = this.#parts;
    this.#state.phase = 'stopping';
    notifier?.stopping();
    this.#life.abort();
    const backend = this.#state.runningBackend;
    if (backend !== undefined) await within(BACKEND_STOP_MS, backend.stop());
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

/** A configuration as text, to tell whether it has changed. */
function describe(config: NetworkConfig): string {
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
