/** An agent that has nothing to tell yet, for tests of its metrics. */
import type { MetricsSource } from '../../../src/observe/metrics.js';

export const SILENT_SOURCE: MetricsSource = {
  version: '0.1.0',
  backend: () => undefined,
  queueDrops: () => Promise.resolve(undefined),
  leases: () => 0,
  leaseExpiresAtMs: () => undefined,
  leasesLost: () => 0,
  storeRequests: () => [],
  storeWatchRestarts: () => 0,
  storeSkippedKeys: () => 0,
};
