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
  /** The last packet of each direction and reason for which any was dropped; a daemon of before has none. */
  readonly lastDrops?: readonly LastDropStatus[];
}

/** The last packet that was dropped for a reason. */
export interface LastDropStatus {
  readonly direction: 'encap' | 'decap';
  /** The stable name of a `DropReason`. */
  readonly reason: string;
  /** ISO 8601. */
  readonly time: string;
  /** Whom the datagram was for on the way out, who sent it on the way in; `null` before a next hop was found. */
  readonly underlayAddress: string | null;
  /** What the kernel said to it (`EPERM`), `null` when it was not asked. */
  readonly error: string | null;
  /** The first bytes of the inner packet as it came, hexadecimal. */
  readonly packet: string;
  /** Of the whole packet. */
  readonly lengthBytes: number;
}

export interface TableStatus {
  /** Leases that can be forwarded to. */
  readonly leases: number;
  /** Distinct next hops (peers) behind them. */
  readonly nextHops: number;
  readonly memoryBytes: number;
}
