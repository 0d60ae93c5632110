import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { estimateRatio, quantile, spreadOf, verdictOf } from '../../../bench/statistics.js';
import { median } from '../../../src/median.js';

test('a quantile is the smallest value that so many do not exceed', () => {
  const values = Array.from({ length: 200 }, (_, index) => 200 - index);
  assert.equal(quantile(values, 0.99), 198);
  assert.equal(quantile(values, 1), 200);
  assert.equal(quantile(values, 0), 1);
  assert.equal(quantile([7], 0.99), 7);
  assert.throws(() => quantile([], 0.5), RangeError);
});

test('the median is the middle value, or the mean of the two in the middle', () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.equal(median([7]), 7);
  assert.throws(() => median([]), RangeError);
});

test('a spread has the median between the lowest and the highest value, in whatever order they come', () => {
  assert.equal(spreadOf([]), undefined);
  assert.deepEqual(spreadOf([5, 1, 9]), { median: 5, min: 1, max: 9, count: 3 });
});

test('the interval is that of Student’s t over the logarithms of the ratios', () => {
  // ln 2 and ln 8 have the mean ln 4 and the standard error ln 2; t at one degree of freedom is 12.706.
  const { ratio, low, high, count } = estimateRatio([
    [20, 10],
    [8, 1],
  ]);
  assert.ok(Math.abs(ratio - 4) < 1e-9);
  assert.ok(Math.abs(high - 4 * 2 ** 12.706) < 1e-6);
  assert.ok(Math.abs(low - 4 / 2 ** 12.706) < 1e-9);
  assert.equal(count, 2);
});

test('t falls on without a step where the table ends', () => {
  const pairs = (count: number): [number, number][] =>
    Array.from({ length: count }, (_, index) => [index % 2 === 0 ? 2 : 1, 1]);
  // The half width, by the standard error of as many alternating pairs, gives t back.
  const t = (count: number): number => {
    const ratios = pairs(count).map(([value]) => Math.log(value));
    const mean = ratios.reduce((sum, value) => sum + value, 0) / count;
    const variance = ratios.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (count - 1);
    const { ratio, high } = estimateRatio(pairs(count));
    return Math.log(high / ratio) / Math.sqrt(variance / count);
  };
  assert.ok(Math.abs(t(31) - 2.042) < 1e-6);
  assert.ok(Math.abs(t(32) - 2.0395) < 0.001);
  assert.ok(Math.abs(t(121) - 1.9799) < 0.001);
});

test('swapping the two sides turns ratio and interval upside down', () => {
  const figure = fc.double({ min: 1e-3, max: 1e9, noNaN: true });
  fc.assert(
    fc.property(fc.array(fc.tuple(figure, figure), { minLength: 2, maxLength: 40 }), (pairs) => {
      const one = estimateRatio(pairs);
      const other = estimateRatio(pairs.map(([candidate, base]): [number, number] => [base, candidate]));
      const close = (a: number, b: number): boolean => Math.abs(Math.log(a * b)) < 1e-6 * (1 + Math.abs(Math.log(a)));
      assert.ok(close(one.ratio, other.ratio) && one.low <= one.ratio && one.ratio <= one.high);
      if (Number.isFinite(one.high) && other.low > 0) assert.ok(close(one.high, other.low));
    }),
  );
});

test('there is no interval of one pair, nor a ratio to nothing', () => {
  assert.throws(() => estimateRatio([[1, 1]]), RangeError);
  assert.throws(
    () =>
      estimateRatio([
        [1, 1],
        [1, 0],
      ]),
    RangeError,
  );
});

test('only an interval that leaves out 1 is a verdict, and which way is better decides it', () => {
  const estimate = (low: number, high: number) => ({ ratio: Math.sqrt(low * high), low, high, count: 9 });
  assert.equal(verdictOf(estimate(1.1, 1.3), 'higher'), 'faster');
  assert.equal(verdictOf(estimate(1.1, 1.3), 'lower'), 'slower');
  assert.equal(verdictOf(estimate(0.7, 0.9), 'higher'), 'slower');
  assert.equal(verdictOf(estimate(0.7, 0.9), 'lower'), 'faster');
  assert.equal(verdictOf(estimate(0.9, 1.1), 'higher'), 'no difference');
});
