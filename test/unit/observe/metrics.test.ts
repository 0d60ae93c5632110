import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BackendStatus } from '../../../src/backend/status.js';
import { createMetrics, type MetricsSource } from '../../../src/observe/metrics.js';

const BACKEND: BackendStatus = {
  type: 'udp',
  device: 'flannel0',
  mtuBytes: 1472,
  port: 8285,
  workers: [],
  offloads: [
    { name: 'tun-tso', state: 'on', stepDowns: 0 },
    { name: 'udp-segment', state: 'on', stepDowns: 3 },
    { name: 'udp-gro', state: 'off', reason: 'switched off by --disable-offload', stepDowns: 0 },
  ],
  table: { leases: 0, nextHops: 0, memoryBytes: 0 },
  encap: { packets: 0, bytes: 0, dropped: {} },
  decap: { packets: 0, bytes: 0, dropped: {} },
  icmpErrorsSent: 0,
  icmpErrorsRateLimited: 0,
};

test('offloads are 1 or 0 as they are at each scrape, and their steps down are counted', async () => {
  let backend: BackendStatus | undefined;
  const source: MetricsSource = {
    version: '0.1.0',
    backend: () => backend,
    leases: () => 0,
    leaseExpiresAtMs: () => undefined,
    leasesLost: () => 0,
    storeRequests: () => [],
    storeWatchRestarts: () => 0,
  };
  const metrics = await createMetrics(source);
  const scraped = async (): Promise<string[]> =>
    (await metrics.read()).split('\n').filter((line) => line.startsWith('flannel_offload'));
  assert.deepEqual(await scraped(), []);
  backend = BACKEND;
  assert.deepEqual(await scraped(), [
    'flannel_offload{name="tun-tso"} 1',
    'flannel_offload{name="udp-segment"} 1',
    'flannel_offload{name="udp-gro"} 0',
    'flannel_offload_step_downs_total{name="tun-tso"} 0',
    'flannel_offload_step_downs_total{name="udp-segment"} 3',
    'flannel_offload_step_downs_total{name="udp-gro"} 0',
  ]);
  backend = { ...BACKEND, offloads: [{ name: 'udp-segment', state: 'off', reason: 'refused', stepDowns: 4 }] };
  assert.deepEqual(await scraped(), [
    'flannel_offload{name="udp-segment"} 0',
    'flannel_offload_step_downs_total{name="udp-segment"} 4',
  ]);
});
