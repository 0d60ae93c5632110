import type { NetworkConfigError } from '../errors.js';
import type { Lease } from './lease.js';
import type { NetworkConfig } from './network-config.js';
import type { ProbeBoard } from './probe-board.js';
import type { LeaseRequest, LeaseWatcher, OwnLeaseWatcher, SubnetManager } from './subnet-manager.js';

/**
 * A subnet manager that is loaded when it is asked for the first time: a store's client library takes longer to load than
 * all the rest of a start, in which packets wait.
 */
export class LazySubnetManager implements SubnetManager {
  readonly #load: () => Promise<SubnetManager>;
  #loading: Promise<SubnetManager> | undefined;
  #loaded: SubnetManager | undefined;
  #closed = false;

  /** @param load - what it throws, the first caller gets */
  constructor(load: () => Promise<SubnetManager>) {
    this.#load = load;
  }

  /** Loads it now. @throws what its loading throws */
  async load(): Promise<void> {
    await this.#manager();
  }

  get name(): string {
    return this.#loaded?.name ?? 'not loaded yet';
  }

  /** There once it is loaded. */
  get probes(): ProbeBoard | undefined {
    return this.#loaded?.probes;
  }

  async networkConfig(signal: AbortSignal): Promise<NetworkConfig> {
    return (await this.#manager()).networkConfig(signal);
  }

  async acquireLease(config: NetworkConfig, request: LeaseRequest, signal: AbortSignal): Promise<Lease> {
    return (await this.#manager()).acquireLease(config, request, signal);
  }

  async keepLease(
    lease: Lease,
    renewMarginSeconds: number,
    watcher: OwnLeaseWatcher,
    signal: AbortSignal,
  ): Promise<void> {
    return (await this.#manager()).keepLease(lease, renewMarginSeconds, watcher, signal);
  }

  async watchNetworkConfig(
    tell: (config: NetworkConfig | NetworkConfigError) => void,
    signal: AbortSignal,
  ): Promise<void> {
    return (await this.#manager()).watchNetworkConfig(tell, signal);
  }

  async watchLeases(config: NetworkConfig, watcher: LeaseWatcher, signal: AbortSignal): Promise<void> {
    return (await this.#manager()).watchLeases(config, watcher, signal);
  }

  async listLeases(signal: AbortSignal): Promise<Lease[]> {
    return (await this.#manager()).listLeases(signal);
  }

  close(): void {
    this.#closed = true;
    this.#loaded?.close();
  }

  #manager(): Promise<SubnetManager> {
    this.#loading ??= this.#load().then((manager) => {
      this.#loaded = manager;
      if (this.#closed) manager.close();
      return manager;
    });
    return this.#loading;
  }
}
