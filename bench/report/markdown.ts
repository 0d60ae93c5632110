/** The report in Markdown, which docs/performance.md takes in. */
import type { Results } from '../results.js';
import { goalTable } from './goals.js';
import { failureLines, markdownTable, tablesOfMode } from './tables.js';

/** One line on the machine and the date. */
export function circumstances(results: Results): string {
  const { machine, startedAt, endedAt } = results;
  const [first, last] = [startedAt.slice(0, 10), endedAt.slice(0, 10)];
  return (
    `${first === last ? first : `${first} to ${last}`}, ${machine.cpu} (${machine.processors} processors for everything, ` +
    `${machine.architecture}), ${machine.memoryGiB} GiB, Linux ${machine.kernel}, Node ${machine.node}, ` +
    `flannelette ${results.version}; others used ${machine.otherLoadPercent} % of the processors before it began`
  );
}

/** How it was measured, on one line. */
export function method(results: Results): string {
  const [least, most] = roundsOf(results);
  const rounds = least === most ? String(most) : `${least} to ${most}`;
  return (
    `${rounds} ${rounds === '1' ? 'round' : 'rounds'} in turn, ${results.seconds} s each; ` +
    `from ${results.from === 'pod' ? 'pod to pod' : 'node to node'}; underlay MTU ${results.underlayMtuBytes}; ` +
    `several streams are ${results.streams}`
  );
}

/** In how many rounds each thing was measured: the fewest and the most, for runs can be put together. */
function roundsOf({ samples }: Results): [least: number, most: number] {
  const counts = new Map<string, Set<number>>();
  for (const { mode, measure, round } of samples) {
    const rounds = counts.get(`${mode} ${measure}`) ?? new Set();
    counts.set(`${mode} ${measure}`, rounds.add(round));
  }
  const sizes = [...counts.values()].map(({ size }) => size);
  return [Math.min(...sizes), Math.max(...sizes)];
}

/** Which offloads each agent had in use, why not the others, and whether any was given up on the way: a line each. */
export function offloadLines({ contenders }: Results): string[] {
  return contenders.flatMap(({ title, offloads = [] }) => {
    if (offloads.length === 0) return [];
    const on = offloads.filter(({ state }) => state === 'on').map(({ name }) => name);
    const off = offloads.filter(({ state }) => state === 'off').map(({ name }) => name);
    const downs = offloads.filter(({ stepDowns }) => stepDowns > 0);
    const parts = [
      `on: ${on.join(', ') || 'none'}`,
      ...(off.length > 0 ? [`off: ${off.join(', ')}`] : []),
      ...downs.map(({ name, stepDowns }) => `${name} was given up ${stepDowns} times`),
    ];
    return [`${title}, ${parts.join('; ')}`];
  });
}

/** What ethtool says of a mode: `tso off, gro on`. */
export function offloadState(offloads: Readonly<Record<string, string>>): string {
  return Object.entries(offloads)
    .map(([name, state]) => `${name} ${state}`)
    .join(', ');
}

/**
 * @param plots - where the plot of a measure is, as a link from the report; `undefined` where there is none
 * @param level - of the headings: 2 for a document of its own
 */
export function markdownReport(results: Results, plots: (measure: string) => string | undefined, level = 2): string {
  const heading = (depth: number, text: string): string => `${'#'.repeat(level + depth)} ${text}`;
  const goals = goalTable(results);
  const lines = [circumstances(results) + '.', '', method(results) + '.', ''];
  if (goals.rows.length > 0) lines.push(heading(0, goals.title), '', ...markdownTable(goals), '');
  for (const { name, title } of results.measures) {
    const plot = plots(name);
    if (plot !== undefined) lines.push(`![${title}](${plot})`, '');
  }
  for (const { name, title, offloads } of results.modes) {
    lines.push(`<details><summary>Tables, cable: ${title}</summary>`, '', `eth0: ${offloadState(offloads)}.`, '');
    for (const table of tablesOfMode(results, name)) {
      lines.push(heading(1, table.title), '', ...markdownTable(table), '');
    }
    lines.push('</details>', '');
  }
  const offloads = offloadLines(results);
  if (offloads.length > 0) {
    const list = offloads.map((line) => `- ${line}`);
    lines.push('<details><summary>Offloads that the agents had</summary>', '', ...list, '', '</details>', '');
  }
  const failures = failureLines(results);
  if (failures.length > 0) lines.push(heading(0, 'What failed'), '', ...failures.map((line) => `- ${line}`), '');
  return lines.join('\n');
}
