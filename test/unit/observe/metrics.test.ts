import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BackendStatus } from '../../../src/backend/status.js';
import { createMetrics } from '../../../src/observe/metrics.js';
import { backendStatus, workerStatus } from '../../support/backend-status.js';
import { SILENT_SOURCE } from './metrics-source.js';

const BACKEND = backendStatus({
  offloads: [
    { name: 'tun-tso', state: 'on', stepDowns: 0 },
    { name: 'udp-segment', state: 'on', stepDowns: 3 },
    { name: 'udp-gro', state: 'off', reason: 'switched off by --disable-offload', stepDowns: 0 },
  ],
});

/** The samples whose names begin so, of an agent with that backend at each scrape. */
async function scrapes(start: string, backend: () => BackendStatus | undefined): Promise<() => Promise<string[]>> {
  const metrics = await createMetrics({ ...SILENT_SOURCE, backend });
  return async () => (await metrics.read()).split('\n').filter((line) => line.startsWith(start));
}

test('restarts of workers are counted by the name of the worker', async () => {
  const workers = [workerStatus({ restarts: 3 }), workerStatus({ name: 'decap-0', direction: 'decap' })];
  const scraped = await scrapes('flannel_worker_restarts_total', () => ({ ...BACKEND, workers }));
  assert.deepEqual(await scraped(), [
    'flannel_worker_restarts_total{worker="encap-0"} 3',
    'flannel_worker_restarts_total{worker="decap-0"} 0',
  ]);
});

test('offloads are 1 or 0 as they are at each scrape, and their steps down are counted', async () => {
  let backend: BackendStatus | undefined;
  const scraped = await scrapes('flannel_offload', () => backend);
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
