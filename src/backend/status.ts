import type { DirectionCounters } from '../dataplane/counters.js';
import type { OffloadStatus } from '../dataplane/offloads.js';
import type { WorkerStatus } from '../dataplane/packet-worker.js';

export type { DirectionCounters, OffloadStatus, WorkerStatus };

/** Facts about a running backend: shapes shared by `flannelctl status --json`, `/metrics` and the logs. */
export interface BackendStatus {
  readonly type: string;
  readonly device: string;
  readonly mtuBytes: number;
  /** UDP port of the tunnel. */
  readonly port: number;
  readonly workers: readonly WorkerStatus[];
  /** What of the kernel's offloads is in use, and why the rest is not. */
  readonly offloads: readonly OffloadStatus[];
  readonly table: TableStatus;
  readonly encap: DirectionCounters;
  readonly decap: DirectionCounters;
  readonly icmpErrorsSent: number;
  readonly icmpErrorsRateLimited: number;
}

export interface TableStatus {
  /** Leases that can be forwarded to. */
  readonly leases: number;
  /** Distinct next hops (peers) behind them. */
  readonly nextHops: number;
  readonly memoryBytes: number;
}
