/** What a run of the benchmark leaves behind, as `results.json` has it, and what is read out of it. */
import type { OffloadStatus } from '../src/dataplane/offloads.js';
import { spreadOf, type Spread } from './statistics.js';

export const RESULTS_FORMAT = 1;

/** How a figure is shown and which way is better. */
export interface Figure {
  /** In `results.json`: `gbits`. */
  readonly name: string;
  /** In plots: `throughput`. */
  readonly title: string;
  readonly unit: string;
  /** Over a column: `agents' CPU-s/GB`. */
  readonly heading: string;
  /** Whether its ratio to the base tells anything. */
  readonly compared: boolean;
  readonly better: 'higher' | 'lower';
}

/** A measure as reports speak of it. */
export interface MeasureDescription {
  /** On the command line: `udp-64`. */
  readonly name: string;
  readonly title: string;
  /** The first is the one that plots show. */
  readonly figures: readonly Figure[];
}

export interface ContenderDescription {
  /** On the command line: `vxlan`. */
  readonly name: string;
  readonly title: string;
  /** MTU of the pods' devices, in bytes. */
  readonly mtuBytes: number;
  /** What its agent said of its offloads after the last measurement. */
  readonly offloads?: readonly OffloadStatus[];
}

/** What one contender gave for one measure in one round. */
export interface Sample {
  readonly mode: string;
  readonly measure: string;
  readonly contender: string;
  /** Counts from 1; samples of one round are compared with each other. */
  readonly round: number;
  /** By the figure's name; absent when the measurement failed. */
  readonly figures?: Readonly<Record<string, number>>;
  /** Why it failed, on one line. */
  readonly error?: string;
}

/** The machine as far as figures depend on it; nothing that tells whose it is. */
export interface Machine {
  readonly kernel: string;
  readonly architecture: string;
  readonly cpu: string;
  readonly processors: number;
  readonly memoryGiB: number;
  readonly node: string;
  /** How much of all processors others used just before the run, in percent: their work is in every figure. */
  readonly otherLoadPercent: number;
}

/** A veth mode and what ethtool said of eth0 in it. */
export interface ModeDescription {
  readonly name: string;
  readonly title: string;
  readonly offloads: Readonly<Record<string, string>>;
}

export interface Results {
  readonly format: typeof RESULTS_FORMAT;
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  readonly endedAt: string;
  readonly version: string;
  readonly machine: Machine;
  readonly underlayMtuBytes: number;
  readonly from: 'pod' | 'host';
  readonly seconds: number;
  readonly streams: number;
  readonly modes: readonly ModeDescription[];
  readonly measures: readonly MeasureDescription[];
  readonly contenders: readonly ContenderDescription[];
  readonly samples: readonly Sample[];
}

/** Which samples are meant. */
export interface Place {
  readonly mode: string;
  readonly measure: string;
  readonly contender: string;
}

/** One figure of a contender by round; rounds in which it failed are missing. */
function figuresByRound(samples: readonly Sample[], place: Place, figure: string): ReadonlyMap<number, number> {
  const byRound = new Map<number, number>();
  for (const { mode, measure, contender, round, figures } of samples) {
    if (mode !== place.mode || measure !== place.measure || contender !== place.contender) continue;
    const value = figures?.[figure];
    if (value !== undefined) byRound.set(round, value);
  }
  return byRound;
}

/** A figure over all rounds; `undefined` where there is none. */
export function spreadAt(samples: readonly Sample[], place: Place, figure: string): Spread | undefined {
  return spreadOf([...figuresByRound(samples, place, figure).values()]);
}

/** What a figure is compared with: the same one of another contender, mode or measure. */
export type Base = Partial<Place>;

/** The pairs `[of the place, of the base]` of the rounds in which both gave a figure above zero. */
export function pairsAt(samples: readonly Sample[], place: Place, base: Base, figure: string): [number, number][] {
  const bases = figuresByRound(samples, { ...place, ...base }, figure);
  const pairs: [number, number][] = [];
  for (const [round, value] of figuresByRound(samples, place, figure)) {
    const other = bases.get(round);
    if (other !== undefined && other > 0 && value > 0) pairs.push([value, other]);
  }
  return pairs;
}

/** The ratio to the base, taken round by round. */
export function ratioAt(samples: readonly Sample[], place: Place, base: Base, figure: string): Spread | undefined {
  return spreadOf(pairsAt(samples, place, base, figure).map(([value, other]) => value / other));
}

/** How often the measurement failed, with the first reason. */
export function failuresAt(samples: readonly Sample[], place: Place): { count: number; reason: string } | undefined {
  const failed = samples.filter(
    ({ mode, measure, contender, error }) =>
      error !== undefined && mode === place.mode && measure === place.measure && contender === place.contender,
  );
  return failed.length === 0 ? undefined : { count: failed.length, reason: failed[0].error ?? '' };
}
