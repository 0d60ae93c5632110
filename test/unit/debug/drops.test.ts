import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DROP_REASONS } from '../../../src/dataplane/drop-reasons.js';
import { dropLines, type DropSample } from '../../../src/debug/drops.js';
import type { StatusAnswer } from '../../../src/observe/control-protocol.js';
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

const status = (dropped: Record<string, number>): StatusAnswer => ({
  ...({} as StatusAnswer),
  state: 'ready',
  backend: {
    ...({} as NonNullable<StatusAnswer['backend']>),
    encap: { packets: 0, bytes: 0, dropped },
    decap: { packets: 0, bytes: 0, dropped: {} },
  },
});

test('drops prints a table, or JSON', async (t) => {
  const socket = await daemonAnswering(t, { '/v1/status': { value: status({ 'no-lease': 1234 }) } });
  const table = await flannelctl(['drops', '--interval', '0.01', '--socket', socket]);
  assert.equal(table.status, 0);
  assert.match(
    table.stdout,
    /^DROPPED +REASON +TOTAL +PER SECOND +WHAT TO DO\nencap +no-lease +1,234 +0 +is that node/,
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
