import assert from 'node:assert/strict';
import { test } from 'node:test';
import { paintFor } from '../../src/flannelctl/paint.js';
import type { DirectionAccount, TrafficAccount } from '../harness/paced-traffic.js';
import { missedParts, restartReport } from '../restarts/report.js';
import type { Scene } from '../restarts/scenes.js';

const PLAIN = paintFor({ write: () => undefined }, {});
const WAY: DirectionAccount = { sent: 3000, lost: 0, duplicates: 0, outOfOrder: 0, longestGapMs: 310.4 };
const ROUND: TrafficAccount = { there: WAY, back: WAY, tcp: { bytes: 4e8, intact: true } };
const GOAL = { lost: 2, outOfOrder: 0, gapMs: 700 };

const scene = (goal?: Scene['goal']): Scene => ({ name: 'a restart', goal, play: () => assert.fail('not played') });
const missed = (...accounts: TrafficAccount[]): readonly string[] | undefined =>
  missedParts({ scene: scene(GOAL), accounts });

test('the goal of a restart is met when no round has missed any of it, and else is told in parts', () => {
  assert.deepEqual(missed(ROUND, ROUND), []);
  assert.deepEqual(missed(ROUND, { ...ROUND, back: { ...WAY, lost: 2 } }), []);
  assert.deepEqual(missed(ROUND, { ...ROUND, back: { ...WAY, lost: 3 } }), ['lost']);
  assert.deepEqual(missed({ ...ROUND, there: { ...WAY, outOfOrder: 1 } }, ROUND), ['order']);
  assert.deepEqual(missed({ ...ROUND, there: { ...WAY, duplicates: 1 } }), ['order']);
  assert.deepEqual(missed({ ...ROUND, there: { ...WAY, longestGapMs: 700 } }), ['gap']);
  assert.deepEqual(missed({ ...ROUND, tcp: { bytes: 4e8, intact: false } }), ['TCP']);
  assert.equal(missedParts({ scene: scene(), accounts: [ROUND] }), undefined);
});

test('the table of restarts has the sums of all rounds, the longest gap, and what missed its goal', () => {
  const worse: TrafficAccount = {
    there: { ...WAY, lost: 7 },
    back: { ...WAY, longestGapMs: 402.6, outOfOrder: 1 },
    tcp: { bytes: 1e8, intact: false },
  };
  const outcomes = [
    { scene: scene(GOAL), accounts: [ROUND, worse] },
    { scene: scene(GOAL), accounts: [ROUND] },
    { scene: scene(), accounts: [worse] },
  ];
  const cells = restartReport(outcomes, PLAIN).map((line) => line.trim().split(/ {2,}/));
  assert.deepEqual(cells, [
    ['WAY', 'SENT', 'LOST', 'OUT OF ORDER', 'LONGEST GAP', 'TCP', 'TCP INTACT', 'GOAL'],
    [
      'a restart',
      '6,000 / 6,000',
      '7 / 0',
      '0 / 1',
      '310 / 403 ms',
      '500 MB',
      'no (1 of 2)',
      'missed: lost, order, TCP',
    ],
    ['a restart', '3,000 / 3,000', '0 / 0', '0 / 0', '310 / 310 ms', '400 MB', 'yes', 'met'],
    ['a restart', '3,000 / 3,000', '7 / 0', '0 / 1', '310 / 403 ms', '100 MB', 'no (1 of 1)', '-'],
  ]);
});
