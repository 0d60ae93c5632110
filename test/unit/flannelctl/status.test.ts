import assert from 'node:assert/strict';
import { test } from 'node:test';
import { paintFor } from '../../../src/flannelctl/paint.js';
import { statusReport } from '../../../src/flannelctl/status-report.js';
import type { StatusAnswer } from '../../../src/observe/control-protocol.js';
import { backendStatus, workerStatus } from '../../support/backend-status.js';
import { daemonAnswering, flannelctl } from '../../support/flannelctl.js';

const READY: StatusAnswer = {
  version: '0.1.0',
  pid: 812,
  startedAt: '2026-03-01T09:00:00.000Z',
  state: 'ready',
  network: { cidr: '10.5.0.0/16', subnetLength: 24, backend: 'udp' },
  lease: {
    subnet: '10.5.34.0/24',
    publicIP: '203.0.113.9',
    reserved: false,
    expires: '2026-03-02T09:00:00.000Z',
    backendType: 'udp',
    own: true,
  },
  interface: { name: 'eth0', address: '192.168.64.3', mtu: 1500 },
  publicIP: '203.0.113.9',
  subnetFile: '/run/flannel/subnet.env',
  backend: backendStatus({
    workers: [
      workerStatus({ batches: 1200 }),
      workerStatus({ name: 'decap-0', direction: 'decap', state: 'failed', batches: 7 }),
    ],
    table: { leases: 3, nextHops: 1, memoryBytes: 1024 },
    encap: { packets: 12_345, bytes: 2_097_152, dropped: { 'no-lease': 3, truncated: 0, 'ttl-exceeded': 40 } },
    decap: { packets: 5, bytes: 420, dropped: { 'unknown-sender': 1, 'of-tomorrow': 2 } },
    icmpErrorsSent: 43,
  }),
  store: {
    endpoints: ['http://127.0.0.1:2379', 'http://10.0.0.2:2379'],
    prefix: '/coreos.com/network',
    healthy: true,
    lastContactAt: '2026-03-01T12:12:00.000Z',
    watchRestarts: 1,
    skippedEntries: 0,
  },
};
const NOW = Date.parse('2026-03-01T12:12:04.000Z');
const plain = paintFor({ write: () => undefined }, {});

test('status tells everything about an agent that is ready', () => {
  assert.deepEqual(statusReport(READY, plain, NOW), [
    'Agent        flanneld 0.1.0, pid 812, up 3 h 12 min',
    'State        ready',
    'Network      10.5.0.0/16, a /24 for each node, backend udp',
    'Lease        10.5.34.0/24, expires in 20 h 47 min (2026-03-02T09:00:00.000Z)',
    'Interface    eth0 192.168.64.3, MTU 1500, public IP 203.0.113.9',
    'Device       flannel0, MTU 1472, udp on port 8285',
    'Table        3 leases of other nodes, 1 next hop, 1.0 KiB',
    'Subnet file  /run/flannel/subnet.env',
    'Store        healthy, last answer 4 s ago',
    '             http://127.0.0.1:2379,http://10.0.0.2:2379 under /coreos.com/network',
    '             1 watch restart, 0 bad entries skipped',
    '',
    'DIRECTION                 PACKETS    BYTES  DROPPED',
    'encap (pods to underlay)   12,345  2.0 MiB       43',
    'decap (underlay to pods)        5    420 B        3',
    '',
    'WORKER   DIRECTION  STATE    BATCHES',
    'encap-0  encap      running    1,200',
    'decap-0  decap      failed         7',
    '',
    'DROPPED  REASON          PACKETS  WHAT IT MEANS',
    'encap    ttl-exceeded         40  the TTL ran out here; the source is told with ICMP time-exceeded',
    'encap    no-lease              3  ' +
      'no node leases the subnet of the destination; the source is told with ICMP net-unreachable',
    'decap    of-tomorrow           2  not known to this flannelctl',
    "decap    unknown-sender        1  the datagram's sender holds no lease and is in no --trusted-source",
    '',
    'ICMP errors: 43 sent to sources, 0 held back by the rate limit',
  ]);
});

test('status says which offloads are in use, and why the others are not, or not everywhere', () => {
  const backend = {
    ...READY.backend!,
    offloads: [
      { name: 'tun-tso', state: 'on', stepDowns: 0 },
      { name: 'tun-uso', state: 'off', reason: 'switched off by --disable-offload', stepDowns: 0 },
      { name: 'udp-segment', state: 'on', reason: 'the kernel refuses it to 192.0.2.2: EIO', stepDowns: 1 },
    ],
  } as const;
  const lines = statusReport({ ...READY, backend }, plain, NOW);
  const at = lines.indexOf('Offloads     tun-tso, udp-segment');
  assert.deepEqual(lines.slice(at + 1, at + 3), [
    '             no tun-uso: switched off by --disable-offload',
    '             udp-segment: the kernel refuses it to 192.0.2.2: EIO',
  ]);
  const offloads = backend.offloads.map((offload) => ({ ...offload, state: 'off' as const }));
  const none = statusReport({ ...READY, backend: { ...backend, offloads } }, plain, NOW);
  assert.ok(none.includes('Offloads     none'), none.join('\n'));
});

test('status says what an agent waits for, and why', () => {
  const waiting: StatusAnswer = {
    version: '0.1.0',
    pid: 812,
    startedAt: '2026-03-01T12:12:00.000Z',
    state: 'configuration',
    reason: 'etcd cannot be reached',
    subnetFile: '/run/flannel/subnet.env',
    store: {
      endpoints: ['http://127.0.0.1:2379'],
      prefix: '/coreos.com/network',
      healthy: false,
      lastError: 'connection refused',
      watchRestarts: 0,
      skippedEntries: 1,
    },
  };
  assert.deepEqual(statusReport(waiting, plain, NOW), [
    'Agent        flanneld 0.1.0, pid 812, up 4 s',
    'State        waiting for the network configuration',
    'Reason       etcd cannot be reached',
    'Subnet file  /run/flannel/subnet.env',
    'Store        unreachable, never answered',
    '             http://127.0.0.1:2379 under /coreos.com/network',
    '             0 watch restarts, 1 bad entry skipped',
    '             error: connection refused',
  ]);
});

test('status of an agent that carries packets while it waits for the store says so', () => {
  const lines = statusReport({ ...READY, state: 'configuration', reason: 'etcd cannot be reached' }, plain, NOW);
  assert.equal(lines[1], 'State        waiting for the network configuration; packets flow meanwhile');
});

test('status shows what somebody should see to, and what to do about it', () => {
  const since = '2026-03-01T11:00:00.000Z';
  const concerns = [{ id: 'lost-subnet', since, message: 'a subnet is lost', remedy: 'make the bridge anew' }] as const;
  const lines = statusReport({ ...READY, concerns }, plain, NOW);
  const at = lines.indexOf('Concern      a subnet is lost');
  assert.ok(at > lines.indexOf('State        ready'), lines.join('\n'));
  assert.equal(lines[at + 1], '             → make the bridge anew');
});

test('a reservation has no expiry to show', () => {
  const reserved = { ...READY, lease: { ...READY.lease!, reserved: true, expires: null } };
  assert.ok(statusReport(reserved, plain, NOW).includes('Lease        10.5.34.0/24, reserved: it never expires'));
});

test('status --json is the answer of the daemon, and the table is coloured on a terminal only', async (t) => {
  const socket = await daemonAnswering(t, { '/v1/status': { value: READY } });
  const json = await flannelctl(['status', '--json', '--socket', socket]);
  assert.deepEqual(JSON.parse(json.stdout), READY);
  const piped = await flannelctl(['status', '--socket', socket]);
  assert.match(piped.stdout, /^State {8}ready$/m);
  const terminal = await flannelctl(['status', '--socket', socket], { terminal: true });
  assert.ok(terminal.stdout.includes('\x1b[32mready\x1b[39m'));
  assert.deepEqual([json.status, piped.status, terminal.status], [0, 0, 0]);
});
