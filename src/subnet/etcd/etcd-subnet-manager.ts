/** The `SubnetManager` on etcd's API v3, in flannel's schema. */
import { errorMessage, NetworkConfigError } from '../../errors.js';
import type { Logger } from '../../log.js';
import { ReasonReporter } from '../../reason-reporter.js';
import type { Lease } from '../lease.js';
import { parseNetworkConfig } from '../network-config.js';
import type { NetworkConfig } from '../network-config.js';
import type { LeaseRequest, LeaseWatcher, OwnLeaseWatcher, StoreObserver, SubnetManager } from '../subnet-manager.js';
import { acquireLease } from './acquire.js';
import { EtcdConnection } from './connection.js';
import { listWithExpiry } from './lease-admin.js';
import { LeaseMirror } from './lease-mirror.js';
import { LeaseStore, prefixEnd } from './lease-store.js';
import type { Listing } from './lease-store.js';
import { DEFAULT_TIMINGS, etcdTargets } from './options.js';
import type { EtcdOptions, EtcdTimings } from './options.js';
import { keepLease } from './own-lease.js';
import { EtcdProbeBoard } from './etcd-probe-board.js';
import { Backoff, pause } from './pause.js';
import { watch } from './watch-stream.js';

export interface EtcdSubnetManagerOptions extends EtcdOptions {
  /** The backends that can be run, in lower case. */
  readonly backendTypes: readonly string[];
  readonly logger: Logger;
  readonly observer?: StoreObserver;
  /** How long a lease lasts; flannel's 24 hours by default. */
  readonly ttlSeconds?: number;
  /** Between one failed renewal and the next try; a minute by default. */
  readonly renewRetryMs?: number;
  readonly timings?: Partial<EtcdTimings>;
  /** From 0 up to but not including 1; decides which free subnet is taken. */
  readonly random?: () => number;
}

/** flannel's time to live of a lease. */
export const LEASE_TTL_SECONDS = 86_400;

/**
 * Makes a subnet manager on etcd. Nothing is connected to yet.
 * @throws UsageError when an endpoint makes no sense or a TLS file cannot be used
 */
export function createEtcdSubnetManager(options: EtcdSubnetManagerOptions): SubnetManager {
  return new EtcdSubnetManager(options);
}

class EtcdSubnetManager implements SubnetManager {
  readonly name: string;
  readonly probes: EtcdProbeBoard;
  private readonly connection: EtcdConnection;
  private readonly store: LeaseStore;
  private readonly ttlSeconds: number;
  /** A listing under way. */
  private listing: { readonly startedAtMs: number; readonly result: Promise<Listing> } | undefined;

  constructor(private readonly options: EtcdSubnetManagerOptions) {
    const { username, password, observer, ttlSeconds = LEASE_TTL_SECONDS } = options;
    const timings = { ...DEFAULT_TIMINGS, ...options.timings };
    this.connection = new EtcdConnection({ targets: etcdTargets(options), username, password, timings, observer });
    this.store = new LeaseStore(this.connection, options.prefix, ttlSeconds);
    this.probes = new EtcdProbeBoard(this.connection, options.prefix, options.logger);
    this.ttlSeconds = ttlSeconds;
    this.name = `etcd at ${this.connection.names.join(', ')}, prefix ${options.prefix}`;
  }

  async networkConfig(signal: AbortSignal): Promise<NetworkConfig> {
    const key = this.store.configKey;
    const stored = await this.store.config(signal);
    if (stored === undefined) {
      throw new NetworkConfigError(
        `there is no network configuration in etcd: the key ${key} is absent; write it with "flannelctl network set"`,
      );
    }
    try {
      return parseNetworkConfig(stored.text, this.options);
    } catch (error) {
      if (error instanceof NetworkConfigError) throw new NetworkConfigError(`${key} in etcd: ${error.message}`);
      throw error;
    }
  }

  acquireLease(config: NetworkConfig, request: LeaseRequest, signal: AbortSignal): Promise<Lease> {
    const { logger, random = Math.random } = this.options;
    const below = (limit: number) => Math.floor(random() * limit);
    const list = (limit: AbortSignal) => this.list(limit);
    return acquireLease({ store: this.store, list, config, request, random: below, logger }, signal);
  }

  keepLease(lease: Lease, renewMarginSeconds: number, watcher: OwnLeaseWatcher, signal: AbortSignal): Promise<void> {
    const { logger, renewRetryMs = 60_000 } = this.options;
    const { store, ttlSeconds } = this;
    return keepLease({ store, lease, ttlSeconds, renewMarginSeconds, renewRetryMs, watcher, logger }, signal);
  }

  async watchLeases(config: NetworkConfig, watcher: LeaseWatcher, signal: AbortSignal): Promise<void> {
    const { logger, observer, random } = this.options;
    const mirror = new LeaseMirror({ store: this.store, backendType: config.backend.type, logger, observer });
    const backoff = new Backoff(undefined, undefined, random);
    const reasons = new ReasonReporter((reason) => {
      logger.warn(`the watch on the leases broke off and is set up again: ${reason}`);
    });
    while (!signal.aborted) {
      let openedAt: number | undefined;
      try {
        const { entries, revision } = await this.list(signal);
        watcher.snapshot(mirror.reset(entries));
        const opened = () => {
          openedAt = Date.now();
          if (reasons.troubled) logger.info('watching the leases again');
          reasons.clear();
        };
        await this.watchFrom(revision, mirror, watcher, opened, signal);
      } catch (error) {
        if (signal.aborted) return;
        reasons.report(errorMessage(error));
        if (openedAt !== undefined) observer?.watchRestarted();
        // Only a watch that lasted makes the waits short again: one that breaks at once would list in a hot loop.
        if (openedAt !== undefined && Date.now() - openedAt > STABLE_MS) backoff.reset();
        await pause(backoff.nextMs(), signal);
      }
    }
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
    if (shared !== undefined && performance.now() - shared.startedAtMs < SHARED_LISTING_MS) {
      // It may fail by the other's signal; then this one asks by itself.
      const listing = await shared.result.catch(() => undefined);
      if (listing !== undefined) return listing;
    }
    const result = this.store.list(signal);
    const mine = { startedAtMs: performance.now(), result };
    this.listing = mine;
    try {
      return await result;
    } finally {
      if (this.listing === mine) this.listing = undefined;
    }
  }

  private watchFrom(
    afterRevision: string,
    mirror: LeaseMirror,
    watcher: LeaseWatcher,
    opened: () => void,
    signal: AbortSignal,
  ): Promise<void> {
    const key = Buffer.from(this.store.subnetsKey);
    const rangeEnd = prefixEnd(this.store.subnetsKey);
    return watch(
      this.connection,
      {
        key,
        rangeEnd,
        afterRevision,
        opened,
        events: (events) => {
          const { changed, removed } = mirror.apply(events);
          if (changed.length > 0 || removed.length > 0) watcher.change(changed, removed);
        },
      },
      signal,
    );
  }
}

/** A watch that lasted this long was no part of a series of failures. */
const STABLE_MS = 10_000;
/** A listing that began longer ago may lack what its second user has just written. */
const SHARED_LISTING_MS = 100;
