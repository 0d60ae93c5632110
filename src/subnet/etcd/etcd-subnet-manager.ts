/** The `SubnetManager` on etcd's API v3, in flannel's schema. */
import { errorMessage, NetworkConfigError } from '../../errors.js';
import type { Logger } from '../../log.js';
import type { Lease } from '../lease.js';
import { parseNetworkConfig } from '../network-config.js';
import type { NetworkConfig } from '../network-config.js';
import type { LeaseRequest, LeaseWatcher, OwnLeaseWatcher, StoreObserver, SubnetManager } from '../subnet-manager.js';
import { acquireLease } from './acquire.js';
import { EtcdConnection } from './connection.js';
import { follow } from './follow.js';
import { WatchReporter } from './watch-reporter.js';
import { isRemoval } from './watch-stream.js';
import { listWithExpiry } from './lease-admin.js';
import { LeaseMirror } from './lease-mirror.js';
import { LeaseStore } from './lease-store.js';
import type { Listing } from './listing.js';
import { DEFAULT_TIMINGS, etcdTargets } from './options.js';
import type { EtcdOptions, EtcdTimings } from './options.js';
import type { StoreConnection } from './store-connection.js';
import { prefixEnd } from './store-keys.js';
import { OwnKey } from './own-key.js';
import { passwordSource } from './password.js';
import { keepLease } from './own-lease.js';
import { EtcdProbeBoard } from './etcd-probe-board.js';

export interface SubnetManagerOptions {
  /** The folder of the network's keys. */
  readonly prefix: string;
  /** The backends that can be run, in lower case. */
  readonly backendTypes: readonly string[];
  readonly logger: Logger;
  readonly observer?: StoreObserver;
  /** How long a lease lasts; flannel's 24 hours by default. */
  readonly ttlSeconds?: number;
  /** Between one failed renewal and the next try; a minute by default. */
  readonly renewRetryMs?: number;
  /** From 0 up to but not including 1; decides which free subnet is taken, and spreads what many nodes do at once. */
  readonly random?: () => number;
}

export interface EtcdSubnetManagerOptions extends EtcdOptions, SubnetManagerOptions {
  readonly timings?: Partial<EtcdTimings>;
}

/** flannel's time to live of a lease. */
export const LEASE_TTL_SECONDS = 86_400;

/**
 * Makes a subnet manager on etcd. Nothing is connected to yet.
 * @throws UsageError when an endpoint makes no sense or a TLS file cannot be used
 */
export function createEtcdSubnetManager(options: EtcdSubnetManagerOptions): SubnetManager {
  const { username, observer, random, logger } = options;
  const password = passwordSource(options);
  const timings = { ...DEFAULT_TIMINGS, ...options.timings };
  const targets = etcdTargets(options, logger);
  const connection = new EtcdConnection({ targets, username, password, timings, observer, random });
  return createSubnetManagerOn(connection, options);
}

/** Makes a subnet manager on a connection, which goes with it. */
export function createSubnetManagerOn(connection: StoreConnection, options: SubnetManagerOptions): SubnetManager {
  return new EtcdSubnetManager(connection, options);
}

class EtcdSubnetManager implements SubnetManager {
  readonly name: string;
  readonly probes: EtcdProbeBoard;
  private readonly store: LeaseStore;
  private readonly ownKey = new OwnKey();
  private readonly ttlSeconds: number;
  /** A listing under way. */
  private listing: { readonly startedAtMs: number; readonly result: Promise<Listing> } | undefined;

  constructor(
    private readonly connection: StoreConnection,
    private readonly options: SubnetManagerOptions,
  ) {
    this.ttlSeconds = options.ttlSeconds ?? LEASE_TTL_SECONDS;
    this.store = new LeaseStore(connection, options.prefix, this.ttlSeconds);
    this.probes = new EtcdProbeBoard(connection, options.prefix, options.logger);
    this.name = `etcd at ${connection.names.join(', ')}, prefix ${options.prefix}`;
  }

  async networkConfig(signal: AbortSignal): Promise<NetworkConfig> {
    return this.parseConfig((await this.store.config(signal)).text);
  }

  watchNetworkConfig(tell: (config: NetworkConfig | NetworkConfigError) => void, signal: AbortSignal): Promise<void> {
    const { logger, random } = this.options;
    const tellText = (text: string | undefined): void => {
      try {
        tell(this.parseConfig(text));
      } catch (error) {
        if (!(error instanceof NetworkConfigError)) throw error;
        tell(error);
      }
    };
    const read = async (): Promise<string> => {
      const { text, revision } = await this.store.config(signal);
      tellText(text);
      return revision;
    };
    return follow(
      {
        connection: this.connection,
        key: Buffer.from(this.store.configKey),
        random,
        read,
        events: (events) => {
          const last = events[events.length - 1];
          tellText(isRemoval(last) ? undefined : last.kv.value.toString());
        },
        // The watch on the leases, which breaks together with this one, is the one to tell of it.
        broke: (error) => logger.debug(`watching the network configuration again: ${errorMessage(error)}`),
      },
      signal,
    );
  }

  acquireLease(config: NetworkConfig, request: LeaseRequest, signal: AbortSignal): Promise<Lease> {
    const { logger, random = Math.random } = this.options;
    const below = (limit: number) => Math.floor(random() * limit);
    const list = (limit: AbortSignal) => this.list(limit);
    const { store, ownKey } = this;
    return acquireLease({ store, ownKey, list, config, request, random: below, logger }, signal);
  }

  keepLease(lease: Lease, renewMarginSeconds: number, watcher: OwnLeaseWatcher, signal: AbortSignal): Promise<void> {
    const { logger, random, renewRetryMs = 60_000 } = this.options;
    const { store, ownKey, ttlSeconds } = this;
    return keepLease(
      { store, ownKey, lease, ttlSeconds, renewMarginSeconds, renewRetryMs, watcher, logger, random },
      signal,
    );
  }

  watchLeases(config: NetworkConfig, watcher: LeaseWatcher, signal: AbortSignal): Promise<void> {
    const { logger, observer, random } = this.options;
    const mirror = new LeaseMirror({
      folder: this.store.subnetsKey,
      backendType: config.backend.type,
      logger,
      observer,
    });
    const reporter = new WatchReporter(this.connection.clock, logger);
    const read = async (): Promise<string> => {
      const { entries, revision } = await this.list(signal);
      watcher.snapshot(mirror.reset(entries));
      return revision;
    };
    return follow(
      {
        connection: this.connection,
        key: Buffer.from(this.store.subnetsKey),
        rangeEnd: prefixEnd(this.store.subnetsKey),
        random,
        read,
        events: (events) => {
          const { changed, removed } = mirror.apply(events);
          if (changed.length > 0 || removed.length > 0) watcher.change(changed, removed);
        },
        opened: () => reporter.stands(),
        broke: (error, hadStood) => {
          reporter.broke(errorMessage(error));
          if (hadStood) observer?.watchRestarted();
        },
      },
      signal,
    ).finally(() => reporter.close());
  }

  listLeases(signal: AbortSignal): Promise<Lease[]> {
    return listWithExpiry(this.store, signal);
  }

  close(): void {
    this.connection.close();
  }

  /**
   * Lists the leases. An agent that starts watches and acquires at once: the two share one listing, since to transfer
   * and decode that of a large cluster is most of the work of a start.
   */
  private async list(signal: AbortSignal): Promise<Listing> {
    const shared = this.listing;
    if (shared !== undefined && this.connection.clock.elapsed() - shared.startedAtMs < SHARED_LISTING_MS) {
      // It may fail by the other's signal; then this one asks by itself.
      const listing = await shared.result.catch(() => undefined);
      if (listing !== undefined) return listing;
    }
    const result = this.store.list(signal);
    const mine = { startedAtMs: this.connection.clock.elapsed(), result };
    this.listing = mine;
    try {
      return await result;
    } finally {
      if (this.listing === mine) this.listing = undefined;
    }
  }

  private parseConfig(text: string | undefined): NetworkConfig {
    const { configKey: key } = this.store;
    if (text === undefined) {
      throw new NetworkConfigError(
        `there is no network configuration in etcd: the key ${key} is absent; write it with "flannelctl network set"`,
      );
    }
    try {
      return parseNetworkConfig(text, this.options);
    } catch (error) {
      if (error instanceof NetworkConfigError) throw new NetworkConfigError(`${key} in etcd: ${error.message}`);
      throw error;
    }
  }
}

/** A listing that began longer ago may lack what its second user has just written. */
const SHARED_LISTING_MS = 100;
