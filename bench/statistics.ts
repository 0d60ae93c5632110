/**
 * What is made of several rounds' figures. A shared machine drifts by a factor of two within minutes, so figures of
 * different contenders are compared within a round only, as ratios, and the ratios of all rounds are summed up.
 */
import { median } from '../src/median.js';

/** What lies in the middle of several figures, and how far they spread. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly count: number;
}

/** The smallest value that `share` (0 … 1) of all values do not exceed. @throws RangeError for none */
export function quantile(values: readonly number[], share: number): number {
  if (values.length === 0) throw new RangeError('a quantile of no values');
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

/** `undefined` for no values. */
export function spreadOf(values: readonly number[]): Spread | undefined {
  if (values.length === 0) return undefined;
  return { median: median(values), min: Math.min(...values), max: Math.max(...values), count: values.length };
}

/** A ratio with the interval that holds the true one at 95 % confidence. */
export interface RatioEstimate {
  readonly ratio: number;
  readonly low: number;
  readonly high: number;
  /** Pairs it rests on. */
  readonly count: number;
}

/**
 * Student's t for a two-sided interval of 95 %, by degrees of freedom 1, 2, …, 30; beyond, the values fall slowly
 * towards the normal distribution's 1.96.
 */
const T_95 = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11,
  2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
];

function studentT(degrees: number): number {
  // The first two terms of the Cornish-Fisher expansion of t: wrong by less than 0.001 from 31 degrees on.
  return degrees <= T_95.length ? T_95[degrees - 1] : 1.95996 + 2.3722 / degrees + 2.8225 / degrees ** 2;
}

/**
 * The typical ratio of pairs that were measured side by side, by the t interval over the logarithms of the pairs' ratios
 * (their mean is the logarithm of the geometric mean, so that 2 × and ½ × weigh the same).
 * @param pairs - figures above zero: `[of the candidate, of the base]`
 * @throws RangeError for fewer than two pairs, or one that has no ratio
 */
export function estimateRatio(pairs: readonly (readonly [candidate: number, base: number])[]): RatioEstimate {
  if (pairs.length < 2) throw new RangeError('an interval needs two pairs at least');
  if (pairs.some(([candidate, base]) => !(candidate > 0) || !(base > 0))) {
    throw new RangeError('a ratio needs figures above zero');
  }
  const logarithms = pairs.map(([candidate, base]) => Math.log(candidate / base));
  const mean = logarithms.reduce((sum, value) => sum + value, 0) / logarithms.length;
  const variance = logarithms.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (logarithms.length - 1);
  const margin = studentT(logarithms.length - 1) * Math.sqrt(variance / logarithms.length);
  return { ratio: Math.exp(mean), low: Math.exp(mean - margin), high: Math.exp(mean + margin), count: pairs.length };
}

/** What a comparison comes to: only an interval that leaves out 1 tells a difference. */
export type Verdict = 'faster' | 'slower' | 'no difference';

export function verdictOf({ low, high }: RatioEstimate, better: 'higher' | 'lower'): Verdict {
  if (low <= 1 && high >= 1) return 'no difference';
  return low > 1 === (better === 'higher') ? 'faster' : 'slower';
}
