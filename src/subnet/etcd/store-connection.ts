/** What the lease logic needs of a connection to etcd. */
import type * as rpc from 'etcd3';
import type { Clock } from '../../clock.js';
import type { StoreOperation } from '../subnet-manager.js';
import type { StoreError } from './store-error.js';

/** The unary calls in use, with their messages and the name they are counted under. */
export interface Calls {
  range: [rpc.IRangeRequest, rpc.IRangeResponse];
  txn: [rpc.ITxnRequest, rpc.ITxnResponse];
  leaseGrant: [rpc.ILeaseGrantRequest, rpc.ILeaseGrantResponse];
  leaseRevoke: [rpc.ILeaseRevokeRequest, rpc.ILeaseRevokeResponse];
  leaseTimeToLive: [rpc.ILeaseTimeToLiveRequest, rpc.ILeaseTimeToLiveResponse];
  authenticate: [rpc.IAuthenticateRequest, rpc.IAuthenticateResponse];
}

export interface Streams {
  watch: [rpc.IWatchRequest, rpc.IWatchResponse];
  leaseKeepAlive: [rpc.ILeaseKeepAliveRequest, rpc.ILeaseKeepAliveResponse];
}

export interface CallContext {
  readonly operation: StoreOperation;
  readonly signal: AbortSignal;
  /** Instead of the usual limit. */
  readonly timeoutMs?: number;
  /** Its failure says nothing about how the store does: it may be refused to this user. */
  readonly optional?: boolean;
}

/** What is used of a gRPC stream. */
export interface StoreStream<Request, Response> {
  write(request: Request): void;
  /** Ends it from this side; an `error` may follow. */
  cancel(): void;
  on(event: 'data', listener: (response: Response) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'end', listener: () => void): unknown;
}

/** How etcd is spoken to: everything above it knows etcd's messages, and nothing of endpoints, tokens and gRPC. */
export interface StoreConnection {
  /** By which calls are limited in time, and leases expire. */
  readonly clock: Clock;
  /** The endpoints as the operator wrote them. */
  readonly names: readonly string[];
  /** How long one call may take. */
  readonly requestTimeoutMs: number;
  /**
   * Makes one call.
   * @throws StoreError when no endpoint answers or etcd refuses; the signal's reason once it is aborted
   */
  call<M extends keyof Calls>(method: M, request: Calls[M][0], context: CallContext): Promise<Calls[M][1]>;
  /**
   * Opens a stream. The caller listens for its `error` and cancels it.
   * @throws StoreError when no endpoint can be connected to; the signal's reason once it is aborted
   */
  stream<M extends keyof Streams>(method: M, signal: AbortSignal): Promise<OpenStream<M>>;
  /** To be called when a stream failed: the next call begins with another endpoint and a new token. Returns what to throw. */
  streamFailed(endpoint: string, error: unknown): StoreError;
  /** Counts a request that is not made by `call`. */
  count(operation: StoreOperation, error?: unknown): void;
  close(): void;
}

export interface OpenStream<M extends keyof Streams> {
  readonly stream: StoreStream<Streams[M][0], Streams[M][1]>;
  readonly endpoint: string;
}
