/** `npm run bench:compare`: this checkout's agent against a revision's. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { formatTable } from '../src/flannelctl/table.js';
import { paintFor } from '../src/flannelctl/paint.js';
import { removeLeftovers, temporaryFolder } from '../test/harness/leftovers.js';
import { agentContender, tracedAgent, type AgentOptions } from './contenders/agent.js';
import type { CompareOptions } from './compare-options.js';
import { MEASURES } from './measures/index.js';
import type { Measure } from './measures/measure.js';
import type { Progress } from './progress.js';
import { formatRatio } from './report/format.js';
import { pairsAt, type Sample } from './results.js';
import { buildRevision, resolveRevision, type Revision } from './revision.js';
import { runBench } from './run.js';
import { estimateRatio, verdictOf } from './statistics.js';
import { VETH_MODES } from './veth-mode.js';

const CANDIDATE = 'this';
const BASE = 'base';

/** @returns the exit status: 1 when anything could not be measured */
export async function compare(options: CompareOptions, progress: Progress, signal: AbortSignal): Promise<number> {
  const { base: wanted, tracedEvery } = options;
  const commit = wanted === undefined ? undefined : await resolveRevision(wanted);
  await removeLeftovers();
  const folder = await temporaryFolder('compare');
  if (commit !== undefined) progress.show(`building ${commit}`);
  const revision = commit === undefined ? undefined : await buildRevision(commit, join(folder, 'base'));
  try {
    const base = baseAgent(revision);
    const measures = MEASURES.filter(({ name }) => options.measures.includes(name));
    const { samples } = await runBench({
      contenders: (store) => [
        agentContender(store, { ...candidateAgent(tracedEvery), name: CANDIDATE }),
        agentContender(store, { ...base, name: BASE }),
      ],
      required: [CANDIDATE, BASE],
      from: 'pod',
      steps: [{ mode: VETH_MODES.filter(({ name }) => name === options.mode)[0], measures }],
      rounds: options.rounds,
      seconds: options.seconds,
      streams: 1,
      limitSeconds: Infinity,
      alternate: true,
      signal,
      progress,
    });
    process.stdout.write(`${comparisonLines(samples, measures, options.mode, base.title).join('\n')}\n`);
    return samples.some(({ error }) => error !== undefined) ? 1 : 0;
  } finally {
    await revision?.dispose();
    await rm(folder, { recursive: true, force: true });
  }
}

function candidateAgent(tracedEvery: number | undefined): Omit<AgentOptions, 'name'> {
  return tracedEvery === undefined ? { title: 'this checkout' } : tracedAgent(tracedEvery);
}

function baseAgent(revision: Revision | undefined): Omit<AgentOptions, 'name'> {
  if (revision === undefined) return { title: 'unwatched' };
  return { title: revision.commit, program: revision.flanneld, own: true };
}

/** A table with a line for each measure, and how to read it. */
export function comparisonLines(
  samples: readonly Sample[],
  measures: readonly Pick<Measure, 'name' | 'title' | 'figures'>[],
  mode: string,
  base: string,
): string[] {
  const rows = measures.map(({ name, title, figures: [figure] }) => {
    const pairs = pairsAt(samples, { mode, measure: name, contender: CANDIDATE }, { contender: BASE }, figure.name);
    if (pairs.length < 2) return [title, '', '', 'not measured'];
    const estimate = estimateRatio(pairs);
    const interval = `${formatRatio(estimate.low).replace(' ×', '')} – ${formatRatio(estimate.high)}`;
    return [title, formatRatio(estimate.ratio), interval, verdictOf(estimate, figure.better)];
  });
  const columns = [
    { title: 'MEASURE' },
    { title: `× ${base}`, align: 'right' as const },
    { title: '95 % CONFIDENCE', align: 'right' as const },
    { title: 'VERDICT' },
  ];
  return [
    ...formatTable(columns, rows, paintFor(process.stdout, process.env)),
    '',
    'A verdict needs an interval that leaves out 1; more --rounds make it narrower.',
  ];
}
