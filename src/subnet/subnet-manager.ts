import type { NetworkConfigError } from '../errors.js';
import type { Ipv4Prefix } from '../packet/address.js';
import type { Lease, LeaseAttributes } from './lease.js';
import type { NetworkConfig } from './network-config.js';
import type { ProbeBoard } from './probe-board.js';

/** What a node asks for when it wants a subnet; `backendType` is empty for udp, as flannel writes it. */
export interface LeaseRequest extends LeaseAttributes {
  /** The subnet of an earlier run (from subnet.env), taken again when it fits and nobody holds it. */
  readonly previousSubnet?: Ipv4Prefix;
  /** This node's `publicIp` until now: the lease that this manager keeps under it is written anew under the present one. */
  readonly formerPublicIp?: number;
}

/** The leases of all nodes, this one's included. Calls come in the order of the store's revisions. */
export interface LeaseWatcher {
  /** The whole truth: what is not in it is gone. First call, and again after every gap in the watch. */
  snapshot(leases: readonly Lease[]): void;
  /** What has changed since. A lease whose owner changed comes as a change of the same subnet. */
  change(changed: readonly Lease[], removed: readonly Ipv4Prefix[]): void;
}

/** What happens to this node's own lease. */
export interface OwnLeaseWatcher {
  /** Written again in the store: here is the new expiry. */
  renewed(lease: Lease): void;
  /** A renewal failed; forwarding goes on and it is tried again. Called for every failure, however alike. */
  trouble(reason: string): void;
  /** The store has no lease of this node any more, and it could not be written again; that is tried on. Called as often. */
  missing(reason: string): void;
  /** By this node's own clock the lease has run out, and the store could not be asked whether another node has it. */
  expired(): void;
  /** Another machine keeps the same lease under the same public IP. Neither is to give way, and both are to tell. */
  addressShared(reason: string): void;
  /** The subnet is in another node's hands now, and is never taken back by force. */
  lost(reason: string): void;
}

/** What is asked of the store, as `flannel_store_requests_total{operation,result}` counts it. */
export type StoreOperation =
  'authenticate' | 'get' | 'range' | 'txn' | 'grant' | 'keepalive' | 'watch' | 'revoke' | 'time-to-live';

/** Told of every request: for metrics, and for the health shown in `flannelctl status`. */
export interface StoreObserver {
  /** `reason` says in one line why a request failed. */
  request(operation: StoreOperation, result: 'ok' | 'error', reason?: string): void;
  /** The watch broke off after it had stood; it is being set up again. */
  watchRestarted(): void;
  /** How many keys hold no lease of ours now: bad JSON, a bad name, another backend. */
  skippedKeys(count: number): void;
}

/**
 * Where nodes agree on who owns which subnet. The etcd implementation is the reference; Kubernetes fills the same
 * interface. Methods reject with `FlannelError`; they never retry for ever by themselves unless they say so, for only
 * the caller knows what to tell the operator.
 */
export interface SubnetManager {
  /** For logs: what this talks to, without secrets. */
  readonly name: string;

  /** Where agents tell each other of probes; a store may be without one. */
  readonly probes?: ProbeBoard;

  /**
   * Reads and validates the network configuration once.
   * @throws NetworkConfigError when it is absent or invalid; FlannelError `STORE` when the store cannot be asked.
   */
  networkConfig(signal: AbortSignal): Promise<NetworkConfig>;

  /**
   * Takes a subnet: the one the store already holds for this node, else the previous one, else a free one.
   * @throws FlannelError `LEASE` when none is free; `STORE` when the store cannot be asked.
   */
  acquireLease(config: NetworkConfig, request: LeaseRequest, signal: AbortSignal): Promise<Lease>;

  /**
   * Keeps a lease until `signal` aborts or it is lost: renews `renewMarginSeconds` before expiry, retries every minute,
   * takes it back when it was deleted and is free. Resolves on abort and after `lost`; never rejects.
   */
  keepLease(lease: Lease, renewMarginSeconds: number, watcher: OwnLeaseWatcher, signal: AbortSignal): Promise<void>;

  /**
   * Follows the network configuration until `signal` aborts: told once as it is now, and after every change. An error
   * says why there is none that can be used. Never rejects.
   */
  watchNetworkConfig(tell: (config: NetworkConfig | NetworkConfigError) => void, signal: AbortSignal): Promise<void>;

  /** Lists the leases once and follows them until `signal` aborts, through disconnects and compaction; never rejects. */
  watchLeases(config: NetworkConfig, watcher: LeaseWatcher, signal: AbortSignal): Promise<void>;

  /** Every lease, for people: with expiry where the store tells it. */
  listLeases(signal: AbortSignal): Promise<Lease[]>;

  close(): void;
}
