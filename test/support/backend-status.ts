/** What a backend tells of itself, for tests of who shows it. */
import type { BackendStatus, WorkerStatus } from '../../src/backend/status.js';

/** A worker that runs, apart from what is said of it. */
export function workerStatus(told: Partial<WorkerStatus> = {}): WorkerStatus {
  return {
    name: 'encap-0',
    direction: 'encap',
    state: 'running',
    batches: 1,
    receiveErrors: 0,
    slowPathOverflows: 0,
    restarts: 0,
    ...told,
  };
}

/** A backend that has forwarded nothing yet, apart from what is said of it. */
export function backendStatus(told: Partial<BackendStatus> = {}): BackendStatus {
  return {
    type: 'udp',
    device: 'flannel0',
    mtuBytes: 1472,
    port: 8285,
    workers: [],
    offloads: [],
    table: { leases: 0, nextHops: 0, memoryBytes: 0 },
    encap: { packets: 0, bytes: 0, dropped: {} },
    decap: { packets: 0, bytes: 0, dropped: {} },
    icmpErrorsSent: 0,
    icmpErrorsRateLimited: 0,
    ...told,
  };
}
