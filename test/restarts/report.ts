/** What restarts came to, as a table. */
import type { Paint } from '../../src/flannelctl/paint.js';
import { formatTable } from '../../src/flannelctl/table.js';
import type { DirectionAccount, TrafficAccount } from '../harness/paced-traffic.js';
import type { Outcome } from './scenes.js';

/** Which parts of the scene's goal a round missed, in the words of the columns; `undefined` for a scene without a goal. */
export function missedParts({ scene: { goal }, accounts }: Outcome): readonly string[] | undefined {
  if (goal === undefined) return undefined;
  const ways = accounts.flatMap(({ there, back }) => [there, back]);
  const parts: readonly [string, boolean][] = [
    ['lost', ways.some(({ lost }) => lost > goal.lost)],
    ['order', ways.some(({ outOfOrder, duplicates }) => outOfOrder > goal.outOfOrder || duplicates !== 0)],
    ['gap', ways.some(({ longestGapMs }) => longestGapMs >= goal.gapMs)],
    ['TCP', accounts.some(({ tcp }) => !tcp.intact)],
  ];
  return parts.filter(([, missed]) => missed).map(([name]) => name);
}

/** All rounds of a scene in a row: sums, and of gaps the longest. `A / B`: from the node that restarts, and to it. */
export function restartReport(outcomes: readonly Outcome[], paint: Paint): string[] {
  const right = 'right' as const;
  return formatTable(
    [
      { title: 'WAY' },
      ...['SENT', 'LOST', 'OUT OF ORDER', 'LONGEST GAP', 'TCP', 'TCP INTACT'].map((title) => ({ title, align: right })),
      { title: 'GOAL' },
    ],
    outcomes.map((outcome) => row(outcome)),
    paint,
    (_row, _column, text) => (text.startsWith('missed: ') ? paint.bad(text) : text === 'met' ? paint.good(text) : text),
  );
}

function row(outcome: Outcome): string[] {
  const { scene, accounts } = outcome;
  const bothWays = (of: (way: readonly DirectionAccount[]) => string): string =>
    [accounts.map(({ there }) => there), accounts.map(({ back }) => back)].map(of).join(' / ');
  const summed = (of: (way: DirectionAccount) => number): string =>
    bothWays((accounted) => sum(accounted.map(of)).toLocaleString('en-US'));
  const missed = missedParts(outcome);
  return [
    scene.name,
    summed(({ sent }) => sent),
    summed(({ lost }) => lost),
    summed(({ outOfOrder, duplicates }) => outOfOrder + duplicates),
    `${bothWays((accounted) => String(Math.round(Math.max(...accounted.map((way) => way.longestGapMs)))))} ms`,
    `${Math.round(sum(accounts.map(({ tcp }) => tcp.bytes)) / 1e6).toLocaleString('en-US')} MB`,
    intactness(accounts),
    missed === undefined ? '-' : missed.length === 0 ? 'met' : `missed: ${missed.join(', ')}`,
  ];
}

function intactness(accounts: readonly TrafficAccount[]): string {
  const broken = accounts.filter(({ tcp }) => !tcp.intact).length;
  return broken === 0 ? 'yes' : `no (${broken} of ${accounts.length})`;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
