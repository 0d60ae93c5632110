/** Adds a run's rounds to an earlier run's. */
import { UsageError } from '../src/errors.js';
import type { Results } from './results.js';

/** What two runs must have in common. */
export type Setting = Pick<Results, 'from' | 'seconds' | 'streams' | 'underlayMtuBytes' | 'machine'>;

/** @throws UsageError when the rounds of one cannot be added to those of the other, since they were measured in another way */
export function requireSameSetting(earlier: Setting, later: Setting): void {
  const differing = (['from', 'seconds', 'streams', 'underlayMtuBytes'] as const).find(
    (name) => earlier[name] !== later[name],
  );
  if (differing !== undefined) {
    throw new UsageError(
      `--append: the earlier rounds have ${differing} ${earlier[differing]}, these ${later[differing]}: they cannot be put together`,
    );
  }
  if (earlier.machine.kernel !== later.machine.kernel || earlier.machine.cpu !== later.machine.cpu) {
    throw new UsageError('--append: the earlier rounds are of another machine or kernel: choose another --output');
  }
}

/** The results of both, of one {@link Setting}; the later run's rounds count on from the earlier one's. */
export function appendResults(earlier: Results, later: Results): Results {
  const before = earlier.samples.reduce((most, { round }) => Math.max(most, round), 0);
  return {
    ...later,
    startedAt: earlier.startedAt,
    machine: {
      ...later.machine,
      otherLoadPercent: Math.max(earlier.machine.otherLoadPercent, later.machine.otherLoadPercent),
    },
    modes: united(earlier.modes, later.modes),
    measures: united(earlier.measures, later.measures),
    contenders: united(earlier.contenders, later.contenders),
    samples: [...earlier.samples, ...later.samples.map((sample) => ({ ...sample, round: sample.round + before }))],
  };
}

/** All of both by name, in the order of the first; where both have one, the second's. */
function united<Named extends { readonly name: string }>(first: readonly Named[], second: readonly Named[]): Named[] {
  const replaced = first.map((one) => second.find(({ name }) => name === one.name) ?? one);
  return [...replaced, ...second.filter(({ name }) => !first.some((one) => one.name === name))];
}
