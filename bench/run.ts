/** A run: contenders set up side by side, then round after round, each in its turn. */
import { join } from 'node:path';
import { rm } from 'node:fs/promises';
import { errorMessage } from '../src/errors.js';
import { namePrefix, removeLeftovers, temporaryFolder } from '../test/harness/leftovers.js';
import type { Contender } from './contenders/contender.js';
import type { Measure, MeasureOptions } from './measures/measure.js';
import { clock, Progress } from './progress.js';
import type { ContenderDescription, ModeDescription, Sample } from './results.js';
import { startContender, type RunningContender } from './running-contender.js';
import { Store } from './site.js';
import { buildTraffic } from './traffic.js';
import { applyMode, describeMode, type VethMode } from './veth-mode.js';

/** What is done in a mode. */
export interface ModeSteps {
  readonly mode: VethMode;
  readonly measures: readonly Measure[];
}

export interface RunOptions extends MeasureOptions {
  /** Makes the contenders; `store` starts an etcd when it is first called. */
  readonly contenders: (store: () => Promise<Store>) => readonly Contender[];
  /** Contenders without which the run is worth nothing; others that cannot start are left out. */
  readonly required: readonly string[];
  readonly from: 'pod' | 'host';
  readonly steps: readonly ModeSteps[];
  readonly rounds: number;
  readonly limitSeconds: number;
  /** Every other round goes through the contenders backwards. */
  readonly alternate: boolean;
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

export interface RunOutcome {
  readonly contenders: readonly ContenderDescription[];
  readonly modes: readonly ModeDescription[];
  /** Rounds count from 1. */
  readonly samples: readonly Sample[];
}

/**
 * @throws FlannelError when a required contender cannot be started; the reason of `signal` when that is aborted. Nothing
 * of the run is left on the machine in any case.
 */
export async function runBench(options: RunOptions): Promise<RunOutcome> {
  await removeLeftovers();
  await buildTraffic();
  const folder = await temporaryFolder('bench');
  const prefix = namePrefix('bench');
  const running: RunningContender[] = [];
  let store: Promise<Store> | undefined;
  try {
    const contenders = options.contenders(() => (store ??= Store.start(prefix, folder)));
    for (const [index, contender] of contenders.entries()) {
      options.signal.throwIfAborted();
      options.progress.show(`setting up ${contender.name}`);
      const place = { prefix: `${prefix}-${index}`, folder: join(folder, String(index)) };
      try {
        running.push(await startContender(contender, options.from, place));
      } catch (error) {
        if (options.required.includes(contender.name)) throw error;
        options.progress.note(`left out: ${errorMessage(error)}`);
      }
    }
    const modes: ModeDescription[] = [];
    const samples = await measureRounds(running, modes, options);
    return { contenders: await Promise.all(running.map(described)), modes, samples };
  } finally {
    options.progress.clear();
    await Promise.allSettled(running.map(({ site }) => site.dispose()));
    await store?.then(
      (started) => started.dispose(),
      () => undefined,
    );
    await rm(folder, { recursive: true, force: true });
  }
}

async function described({ name, title, mtuBytes, offloads }: RunningContender): Promise<ContenderDescription> {
  // An agent that has ended since is seen in its samples.
  return { name, title, mtuBytes, offloads: await offloads?.().catch(() => undefined) };
}

/** @param modes - filled with what ethtool says when a mode is first set */
async function measureRounds(
  running: readonly RunningContender[],
  modes: ModeDescription[],
  options: RunOptions,
): Promise<Sample[]> {
  const { steps, rounds, progress } = options;
  const samples: Sample[] = [];
  const takers = (measure: Measure): RunningContender[] =>
    running.filter((contender) => measure.appliesTo?.(contender) ?? true);
  const perRound = steps.flatMap(({ measures }) => measures).reduce((sum, one) => sum + takers(one).length, 0);
  const total = rounds * perRound;
  const start = progress.seconds;
  let longest = options.seconds;
  for (let round = 1; round <= rounds; round++) {
    for (const { mode, measures } of steps) {
      await setMode(running, mode, modes);
      for (const measure of measures) {
        const turns = takers(measure);
        if (options.alternate && round % 2 === 0) turns.reverse();
        for (const contender of turns) {
          options.signal.throwIfAborted();
          if (progress.seconds + longest > options.limitSeconds) {
            progress.note(`the time is up in round ${round} of ${rounds}`);
            return samples;
          }
          const done = samples.length;
          const left = done === 0 ? '' : `, ${clock(((progress.seconds - start) / done) * (total - done))} left`;
          progress.show(
            `${done + 1}/${total}  round ${round}/${rounds}  ${mode.name}  ${measure.name}  ${contender.name}${left}`,
          );
          const begun = progress.seconds;
          const place = { mode: mode.name, measure: measure.name, contender: contender.name, round };
          samples.push({ ...place, ...(await takeSample(measure, contender, options)) });
          longest = Math.max(longest, progress.seconds - begun);
        }
      }
    }
  }
  return samples;
}

async function setMode(running: readonly RunningContender[], mode: VethMode, modes: ModeDescription[]) {
  const nodes = running.flatMap(({ site }) => site.nodes);
  await Promise.all(nodes.map(({ namespace }) => applyMode(namespace, mode)));
  if (nodes.length > 0 && !modes.some(({ name }) => name === mode.name)) {
    modes.push(await describeMode(nodes[0].namespace, mode));
  }
}

async function takeSample(
  measure: Measure,
  contender: RunningContender,
  options: RunOptions,
): Promise<Pick<Sample, 'figures' | 'error'>> {
  try {
    return { figures: await measure.run(contender, options) };
  } catch (error) {
    // An interrupted run's programs end in the middle of their work; that is not the contender's failure.
    options.signal.throwIfAborted();
    options.progress.note(`${measure.name}, ${contender.name}: ${errorMessage(error)}`);
    return { error: errorMessage(error) };
  }
}
