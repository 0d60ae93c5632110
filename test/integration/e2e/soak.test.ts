/**
 * A short soak (`npm run soak` does it for as long as is wanted): a few events, and every packet accounted for.
 *
 * Runs alone: its agents, events and traffic take both processors.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { noCompiler } from '../../harness/compile.js';
import { CUT } from '../../soak/account.js';
import { soakReport } from '../../soak/report.js';
import { runSoak } from '../../soak/soak.js';
import { paintFor } from '../../../src/flannelctl/paint.js';

/** In the one lane and in the other. */
const SCRIPT = [
  ['burst', 'restart', 'takeover', 'kill', 'crash', 'flood', 'watch'],
  ['churn', 'store-crashes', 'store-unreachable', 'tunnel-cut', 'unplugged'],
];

test('nothing vanishes uncounted, whatever happens', { skip: noCompiler }, async (context) => {
  const seed = 1 + Math.floor(Math.random() * 2 ** 31);
  context.diagnostic(`seed ${seed}`);
  const said: string[] = [];
  const report = await runSoak({ minutes: 1, seed, script: SCRIPT, say: (line) => void said.push(line) });
  const plain = paintFor(process.stdout, { NO_COLOR: '1' });
  const evidence = [...report.failures, ...said, ...soakReport(report, plain)].join('\n');
  assert.deepEqual(report.failures, [], evidence);
  const { sent, fate } = report.account;
  const total = (rows: typeof sent): number => rows.reduce((sum, { packets }) => sum + packets, 0);
  assert.equal(total(sent), total(fate), evidence);
  const lost = (what: string): number => fate.find((row) => row.what === what)?.packets ?? 0;
  assert.ok(lost(CUT) > 0, evidence);
  assert.ok(total(fate) > 10_000 && fate[0].packets > 5_000, evidence);
  const [restarts, kills] = (['restarts', 'kills'] as const).map((what) =>
    report.agents.reduce((sum, agent) => sum + agent[what], 0),
  );
  assert.deepEqual([restarts, kills], [1, 1], evidence);
  assert.ok(report.churned.written > 50, evidence);
});
