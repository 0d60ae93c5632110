import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DROP_REASONS } from '../../../src/dataplane/drop-reasons.js';
import type { LastDropStatus } from '../../../src/backend/status.js';
import { dropLines, type DropSample } from '../../../src/debug/drops.js';
import type { StatusAnswer } from '../../../src/observe/control-protocol.js';
import { udpPacket } from '../../harness/inner-packet.js';
import { daemonAnswering, flannelctl } from '../../support/flannelctl.js';

const sample = (atMs: number, encap: Record<string, number>, decap: Record<string, number> = {}): DropSample => ({
  atMs,
  dropped: { encap, decap },
});

test('rates come from two looks, what is dropped now stands first', () => {
  const before = sample(1000, { 'no-lease': 10, 'ttl-exceeded': 500 }, { 'unknown-sender': 1 });
  const after = sample(3000, { 'no-lease': 14, 'ttl-exceeded': 500 }, { 'unknown-sender': 21, 'of-tomorrow': 0 });
  const lines = dropLines(before, after);
  assert.deepEqual(
    lines.map(({ direction, reason, total, perSecond }) => [direction, reason, total, perSecond]),
    [
      ['decap', 'unknown-sender', 21, 10],
      ['encap', 'no-lease', 14, 2],
      ['encap', 'ttl-exceeded', 500, 0],
    ],
  );
});

test('a daemon that was started anew between two looks drops nothing backwards', () => {
  assert.equal(dropLines(sample(0, { truncated: 100 }), sample(1000, { truncated: 3 }))[0].perSecond, 0);
});

test('every reason has a remedy of its own', () => {
  const all = Object.fromEntries(DROP_REASONS.map(({ name }) => [name, 1]));
  const remedies = dropLines(sample(0, {}), sample(1000, all)).map(({ remedy }) => remedy);
  assert.equal(new Set(remedies).size, DROP_REASONS.length);
  assert.ok(remedies.every((remedy) => remedy.length > 10));
});

test('the last packet of a reason comes with its age, its addresses and what the kernel said', () => {
  const packet = udpPacket({ source: '10.5.1.6', destination: '10.5.2.7' });
  const time = '2026-11-21T15:00:00.000Z';
  const last = (direction: 'encap' | 'decap', reason: string, error: string | null): LastDropStatus => ({
    ...{ direction, reason, time, underlayAddress: '192.168.64.2', error },
    ...{ packet: packet.toString('hex'), lengthBytes: packet.length },
  });
  const after: DropSample = {
    ...sample(1000, { 'send-failed': 1, 'no-lease': 1 }, { 'send-failed': 1 }),
    last: [last('encap', 'send-failed', 'EPERM'), last('decap', 'spoofed-source', null)],
  };
  const lines = dropLines(sample(0, {}), after, Date.parse(time) + 90_000);
  assert.deepEqual(
    lines.map(({ last: found }) => found?.text),
    [
      `10.5.1.6:1111 > 10.5.2.7:7777 udp length ${packet.length} ttl 64 to 192.168.64.2 (EPERM)`,
      ...[undefined, undefined],
    ],
    'of that direction and reason only',
  );
  assert.deepEqual(
    [lines[0].last?.ageSeconds, lines[0].last?.outer, lines[0].last?.inner.destinationPort, lines[1].last],
    [90, '192.168.64.2', 7777, null],
  );
});

const status = (dropped: Record<string, number>): StatusAnswer => ({
  ...({} as StatusAnswer),
  state: 'ready',
  backend: {
    ...({} as NonNullable<StatusAnswer['backend']>),
    encap: { packets: 0, bytes: 0, dropped },
    lastDrops: [
      {
        ...{
          direction: 'encap',
          reason: 'no-lease',
          time: new Date().toISOString(),
          underlayAddress: null,
          error: null,
        },
        ...{ packet: udpPacket({ source: '10.5.1.6', destination: '10.5.9.9' }).toString('hex'), lengthBytes: 33 },
      },
    ],
    decap: { packets: 0, bytes: 0, dropped: {} },
  },
});

test('drops prints a table, or JSON', async (t) => {
  const socket = await daemonAnswering(t, { '/v1/status': { value: status({ 'no-lease': 1234 }) } });
  const table = await flannelctl(['drops', '--interval', '0.01', '--socket', socket]);
  assert.equal(table.status, 0);
  assert.match(
    table.stdout,
    /^DROPPED +REASON +TOTAL +PER SECOND +WHAT TO DO\nencap +no-lease +1,234 +0 +is that node.*\n +last \d+ s ago: 10\.5\.1\.6:1111 > 10\.5\.9\.9:7777 udp length 33 ttl 64\n$/,
  );
  const json = await flannelctl(['drops', '--json', '--interval', '0.01', '--socket', socket]);
  const { drops } = JSON.parse(json.stdout) as { drops: { reason: string; total: number }[] };
  assert.deepEqual(
    drops.map(({ reason, total }) => [reason, total]),
    [['no-lease', 1234]],
  );
});

test('drops says when there is nothing, and when no packets flow', async (t) => {
  const quiet = await daemonAnswering(t, { '/v1/status': { value: status({}) } });
  assert.equal(
    (await flannelctl(['drops', '--interval', '0.01', '--socket', quiet])).stdout,
    'nothing has been dropped\n',
  );
  const waiting = await daemonAnswering(t, { '/v1/status': { value: { state: 'lease' } as StatusAnswer } });
  const { status: exit, stderr } = await flannelctl(['drops', '--socket', waiting]);
  assert.deepEqual(
    [exit, stderr],
    [1, 'flannelctl: no packets flow yet, the agent is at "lease": see flannelctl status\n'],
  );
  assert.equal((await flannelctl(['drops', '--interval', '0'])).status, 2);
});
