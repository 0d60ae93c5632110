/** `npm run bench`, from its options to its report. */
import { join } from 'node:path';
import { paintFor } from '../src/flannelctl/paint.js';
import { VERSION } from '../src/version.js';
import { ROOT } from '../test/harness/daemon.js';
import { appendResults, requireSameSetting, type Setting } from './append.js';
import { agentContender, tracedAgent } from './contenders/agent.js';
import type { Contender } from './contenders/contender.js';
import { direct, hostGateway, vxlan } from './contenders/kernel.js';
import { agentWithout, ladderRungs } from './contenders/ladder.js';
import { peerContender } from './contenders/peers.js';
import { describeMachine } from './machine.js';
import { MEASURES, OPTIONAL_MEASURES } from './measures/index.js';
import { STANDARD_CONTENDERS, type BenchOptions, type StandardContender } from './options.js';
import { clock, type Progress } from './progress.js';
import { readResults, requireNoResults, requireWritable, writeReport } from './report/files.js';
import { goalTable } from './report/goals.js';
import { circumstances, method, offloadLines, offloadState } from './report/markdown.js';
import { publish } from './report/publish.js';
import { tablesOfMode, textTable } from './report/tables.js';
import { requireBenchMachine } from './requirements.js';
import { RESULTS_FORMAT, type Results } from './results.js';
import { runBench, type RunOutcome } from './run.js';
import { UNDERLAY_MTU_BYTES, type Store } from './site.js';
import { VETH_MODES } from './veth-mode.js';

/**
 * Measures (or takes an earlier run's figures), prints the tables on standard output and writes the files.
 * @returns the exit status: 1 when any measurement failed
 */
export async function bench(options: BenchOptions, progress: Progress, signal: AbortSignal): Promise<number> {
  const { output, append, render } = options;
  const startedAt = new Date();
  const earlier = output !== undefined && (append || render) ? await readResults(output) : undefined;
  const folder = output ?? join(ROOT, 'bench/results', folderName(startedAt));
  if (earlier === undefined) requireNoResults(folder);
  await requireWritable(folder);
  const now = render ? undefined : await measure(options, startedAt, earlier, progress, signal);
  const results = now === undefined || earlier === undefined ? (now ?? earlier) : appendResults(earlier, now);
  if (results === undefined) throw new RangeError('there are neither new results nor old ones');
  process.stdout.write(`${reportLines(results).join('\n')}\n`);

  for (const complaint of await writeReport(folder, results)) progress.note(complaint);
  if (options.publish) await publish(ROOT, results);
  process.stdout.write(`Took ${clock(progress.seconds)}; report, plots and all figures are in ${folder}\n`);
  return now?.samples.some(({ error }) => error !== undefined) === true ? 1 : 0;
}

async function measure(
  options: BenchOptions,
  startedAt: Date,
  earlier: Setting | undefined,
  progress: Progress,
  signal: AbortSignal,
): Promise<Results> {
  requireBenchMachine();
  const makeContenders = contendersOf(options);
  const { from, seconds, streams } = options;
  const setting = { from, seconds, streams, underlayMtuBytes: UNDERLAY_MTU_BYTES, machine: await describeMachine() };
  if (earlier !== undefined) requireSameSetting(earlier, setting);
  const outcome = await runBench({
    contenders: makeContenders,
    required: ['flannelette'],
    from,
    steps: options.plan.map((plan) => ({
      mode: find(VETH_MODES, plan.mode),
      measures: plan.measures.map((name) => find([...MEASURES, ...OPTIONAL_MEASURES], name)),
    })),
    rounds: options.rounds,
    seconds,
    streams,
    limitSeconds: options.limitSeconds,
    alternate: false,
    signal,
    progress,
  });
  return describe(setting, outcome, startedAt);
}

/** @throws UsageError for a peer that is not there */
function contendersOf({ contenders, ladder, without, tracedEvery, peers }: BenchOptions) {
  const variants = [
    ...(tracedEvery === undefined ? [] : [tracedAgent(tracedEvery)]),
    ...(ladder ? ladderRungs() : []),
    ...without.map(agentWithout),
  ];
  const make = (store: () => Promise<Store>): Contender[] => {
    const standard: Record<StandardContender, Contender> = {
      flannelette: agentContender(store, { name: 'flannelette', title: 'flannelette' }),
      vxlan,
      'host-gw': hostGateway,
      direct,
    };
    return [
      ...STANDARD_CONTENDERS.filter((name) => contenders.includes(name)).map((name) => standard[name]),
      ...variants.map((variant) => agentContender(store, variant)),
      ...peers.map((peer) => peerContender(peer, store)),
    ];
  };
  // A peer that is missing is said before anything is built.
  make(() => Promise.reject(new Error('nothing is started yet')));
  return make;
}

function find<Named extends { readonly name: string }>(all: readonly Named[], name: string): Named {
  const found = all.find((one) => one.name === name);
  if (found === undefined) throw new RangeError(`there is no ${name}`);
  return found;
}

function describe(setting: Setting, outcome: RunOutcome, startedAt: Date): Results {
  const measures = [...MEASURES, ...OPTIONAL_MEASURES]
    .filter(({ name }) => outcome.samples.some(({ measure }) => measure === name))
    .map(({ name, title, figures }) => ({ name, title, figures }));
  return {
    format: RESULTS_FORMAT,
    startedAt: startedAt.toISOString(),
    endedAt: new Date().toISOString(),
    version: VERSION,
    ...setting,
    measures,
    ...outcome,
  };
}

function reportLines(results: Results): string[] {
  const paint = paintFor(process.stdout, process.env);
  const goals = goalTable(results);
  return [
    circumstances(results),
    method(results),
    ...offloadLines(results),
    '',
    ...results.modes.flatMap(({ name, title, offloads }) => [
      paint.strong(`== Cable: ${title}`),
      `   eth0: ${offloadState(offloads)}`,
      '',
      ...tablesOfMode(results, name).flatMap((table) => textTable(table, paint)),
    ]),
    ...(goals.rows.length > 0 ? textTable(goals, paint) : []),
  ];
}

/** `2026-07-31-142501`, of the machine's own clock. */
function folderName(time: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${day}-${two(time.getHours())}${two(time.getMinutes())}${two(time.getSeconds())}`;
}
