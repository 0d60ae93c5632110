import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, test } from 'node:test';
import type { BackendStatus } from '../../../src/backend/status.js';
import { FlannelError } from '../../../src/errors.js';
import { HealthServer } from '../../../src/observe/health-server.js';
import { createMetrics, type MetricsSource } from '../../../src/observe/metrics.js';
import { backendStatus } from '../../support/backend-status.js';

function forwarded(packets: number): BackendStatus {
  return backendStatus({
    table: { leases: 2, nextHops: 1, memoryBytes: 1024 },
    encap: { packets, bytes: packets * 100, dropped: { 'no-lease': 3, 'ttl-exceeded': 0 } },
    decap: { packets: 7, bytes: 700, dropped: { 'unknown-sender': 1 } },
  });
}

let packets = 10;
let running = true;
let expiresAtMs: number | undefined = 1_700_000_000_500;
let reason: string | undefined;
const source: MetricsSource = {
  version: '1.2.3',
  backend: () => (running ? forwarded(packets) : undefined),
  queueDrops: () => Promise.resolve(running ? { deviceDrops: 5, socketDrops: 7 } : undefined),
  leases: () => 3,
  leaseExpiresAtMs: () => expiresAtMs,
  leasesLost: () => 0,
  storeRequests: () => [
    { operation: 'range', result: 'ok', count: 4 },
    { operation: 'txn', result: 'error', count: 1 },
  ],
  storeWatchRestarts: () => 2,
  storeSkippedKeys: () => 3,
};

const open: HealthServer[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
});

async function start(): Promise<string> {
  const health = { notReadyReason: () => reason };
  const server = await HealthServer.listen('127.0.0.1', 0, health, await createMetrics(source));
  open.push(server);
  return `http://127.0.0.1:${server.port}`;
}

/** A connection that reads what comes, and forgets it. */
function connectTo(base: string): Socket {
  return connect(Number(new URL(base).port), '127.0.0.1')
    .on('error', () => undefined)
    .resume();
}

/** Samples by name and labels, as Prometheus reads them. */
async function samples(base: string): Promise<Map<string, number>> {
  const text = await (await fetch(`${base}/metrics`)).text();
  const found = new Map<string, number>();
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const space = line.lastIndexOf(' ');
    found.set(line.slice(0, space), Number(line.slice(space + 1).replace('Inf', 'Infinity')));
  }
  return found;
}

describe('the health server', () => {
  test('says 200 at /healthz while alive, ready or not', async () => {
    const base = await start();
    for (const why of [undefined, 'waiting']) {
      reason = why;
      const reply = await fetch(`${base}/healthz`);
      assert.equal(reply.status, 200);
      assert.equal((await reply.text()).trim(), 'flanneld is running');
    }
  });

  test('says at /readyz whether it is ready, and if not why', async () => {
    const base = await start();
    reason = 'waiting for a subnet';
    const not = await fetch(`${base}/readyz`);
    assert.equal(not.status, 503);
    assert.match(await not.text(), /waiting for a subnet/);
    reason = undefined;
    assert.equal((await fetch(`${base}/readyz`)).status, 200);
  });

  test('knows no other path and no other method', async () => {
    const base = await start();
    assert.equal((await fetch(`${base}/v1/status`)).status, 404);
    assert.equal((await fetch(`${base}/healthz`, { method: 'POST' })).status, 405);
    assert.equal((await fetch(`${base}/healthz`, { method: 'HEAD' })).status, 200);
  });

  test('answers a probe while others hold more connections than it has, and say nothing', async () => {
    const base = await start();
    const holders = Array.from({ length: 100 }, () => connectTo(base));
    const ends = holders.map((socket) => once(socket, 'close'));
    try {
      // As a client that sends its request by the byte.
      for (const socket of holders) socket.write('GET /healthz HTTP/1.1\r\n');
      for (let probe = 0; probe < 5; probe++) assert.equal((await fetch(`${base}/healthz`)).status, 200);
      // The oldest have given way; the others are sent away when their time is up.
      await Promise.all(ends);
    } finally {
      for (const socket of holders) socket.destroy();
    }
  });

  test('sends a client away that never ends its request, and one that goes on forever', async () => {
    const base = await start();
    const slow = connectTo(base);
    const dripping = setInterval(() => slow.write('x-header: y\r\n'), 100);
    try {
      slow.write('GET /metrics HTTP/1.1\r\n');
      await once(slow, 'close');
    } finally {
      clearInterval(dripping);
      slow.destroy();
    }
    const long = connectTo(base);
    long.write(`GET /${'a'.repeat(100_000)}`);
    await once(long, 'close');
    const body = await fetch(`${base}/healthz`, { method: 'POST', body: 'x'.repeat(1_000_000) }).catch(() => undefined);
    assert.ok(body === undefined || body.status === 413);
  });

  test('says in one line that its port is taken', async () => {
    const base = await start();
    const port = Number(new URL(base).port);
    await assert.rejects(
      async () =>
        HealthServer.listen('127.0.0.1', port, { notReadyReason: () => undefined }, await createMetrics(source)),
      (error) => error instanceof FlannelError && error.code === 'HOST' && /--healthz-port/.test(error.message),
    );
  });
});

describe('the metrics', () => {
  test('have the documented names and labels', async () => {
    const found = await samples(await start());
    for (const [name, value] of [
      ['flannel_packets_total{direction="encap"}', 10],
      ['flannel_packets_total{direction="decap"}', 7],
      ['flannel_bytes_total{direction="encap"}', 1000],
      ['flannel_dropped_packets_total{direction="encap",reason="no-lease"}', 3],
      ['flannel_dropped_packets_total{direction="encap",reason="ttl-exceeded"}', 0],
      ['flannel_dropped_packets_total{direction="decap",reason="unknown-sender"}', 1],
      ['flannel_queue_dropped_packets_total{queue="device"}', 5],
      ['flannel_queue_dropped_packets_total{queue="socket"}', 7],
      ['flannel_leases', 3],
      ['flannel_lease_expiry_timestamp_seconds', 1_700_000_000.5],
      ['flannel_store_requests_total{operation="range",result="ok"}', 4],
      ['flannel_store_requests_total{operation="txn",result="error"}', 1],
      ['flannel_store_watch_restarts_total', 2],
      ['flannel_store_skipped_keys', 3],
      ['flannel_build_info{version="1.2.3"}', 1],
    ] as const) {
      assert.equal(found.get(name), value, name);
    }
    for (const name of [
      'process_cpu_seconds_total',
      'process_start_time_seconds',
      'process_resident_memory_bytes',
      'process_virtual_memory_bytes',
      'process_open_fds',
      'process_max_fds',
    ]) {
      assert.ok((found.get(name) ?? 0) > 0, name);
    }
  });

  test('follow the counters from scrape to scrape', async () => {
    const base = await start();
    for (packets of [10, 10, 25]) {
      assert.equal((await samples(base)).get('flannel_packets_total{direction="encap"}'), packets);
    }
    packets = 10;
  });

  test('leave out what is not there yet', async () => {
    const base = await start();
    running = false;
    expiresAtMs = undefined;
    const found = await samples(base);
    assert.ok(![...found.keys()].some((name) => name.startsWith('flannel_packets_total')));
    assert.ok(!found.has('flannel_queue_dropped_packets_total{queue="socket"}'));
    assert.ok(!found.has('flannel_lease_expiry_timestamp_seconds'));
    running = true;
    expiresAtMs = Infinity;
    assert.equal((await samples(base)).get('flannel_lease_expiry_timestamp_seconds'), Infinity);
    expiresAtMs = 1_700_000_000_500;
  });
});
