import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import fc from 'fast-check';

import { FlannelError, NetworkConfigError, type ErrorCode } from '../../../src/errors.js';
import { systemClock as clock } from '../../../src/clock.js';
import { persist, retryDelayMs, within } from '../../../src/flanneld/persistence.js';
import { ReasonReporter } from '../../../src/reason-reporter.js';

describe('a reason', () => {
  test('is said once, when it changes, and every minute', () => {
    let nowMs = 1000;
    const said: string[] = [];
    const reporter = new ReasonReporter(
      (reason) => said.push(`${nowMs} ${reason}`),
      () => nowMs,
    );
    for (const [atMs, reason] of [
      [1000, 'a'],
      [2000, 'a'],
      [60_999, 'a'],
      [61_000, 'a'],
      [62_000, 'b'],
      [63_000, 'a'],
      [64_000, 'a'],
    ] as const) {
      nowMs = atMs;
      reporter.report(reason);
    }
    assert.deepEqual(said, ['1000 a', '61000 a', '62000 b', '63000 a']);
    reporter.clear();
    reporter.report('a');
    assert.equal(said.at(-1), '64000 a');
  });
});

describe('waiting between tries', () => {
  test('is a second for a bad configuration, at most 0.75 for the store and 5 for the rest, growing and spread', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1000 }), fc.double({ min: 0, max: 1, noNaN: true }), (failures, chance) => {
        assert.equal(retryDelayMs('CONFIG', failures, chance), 1000);
        for (const [code, leastMs, mostMs] of [
          ['STORE', 50, 750],
          ['BACKEND', 800, 5000],
        ] as const) {
          const delayMs = retryDelayMs(code, failures, chance);
          assert.ok(delayMs >= leastMs && delayMs <= mostMs, `${delayMs}`);
          assert.ok(retryDelayMs(code, failures + 1, chance) >= delayMs);
          assert.ok(retryDelayMs(code, failures, 1) >= 1.25 * retryDelayMs(code, failures, 0) - 1e-6);
        }
      }),
    );
  });
});

describe('trying again', () => {
  const transient = new Set<ErrorCode>(['CONFIG']);

  test('goes on until it works, and tells each failure', async () => {
    const outcomes = [new NetworkConfigError('first'), 'done'];
    const failures: string[] = [];
    const result = await persist(
      () => {
        const outcome = outcomes.shift();
        return typeof outcome === 'string' ? Promise.resolve(outcome) : Promise.reject(outcome ?? new Error('empty'));
      },
      { clock, signal: new AbortController().signal, transient, onFailure: (error) => failures.push(error.message) },
    );
    assert.equal(result, 'done');
    assert.deepEqual(failures, ['first']);
  });

  for (const error of [new FlannelError('HOST', 'no device'), new TypeError('a bug')]) {
    test(`ends at once for ${error.name}: ${error.message}`, async () => {
      await assert.rejects(
        persist(() => Promise.reject(error), {
          clock,
          signal: new AbortController().signal,
          transient,
          onFailure: () => assert.fail('not to be tried again'),
        }),
        error,
      );
    });
  }

  test('ends with a stop, also between two tries', async () => {
    const stop = new AbortController();
    await assert.rejects(
      persist(() => Promise.reject(new NetworkConfigError('x')), {
        clock,
        signal: stop.signal,
        transient,
        onFailure: () => setImmediate(() => stop.abort()),
      }),
    );
    assert.ok(stop.signal.aborted);
  });
});

describe('a bound in time', () => {
  test('does not wait for what never ends, nor mind what fails', async () => {
    await within(10, new Promise(() => undefined));
    await within(60_000, Promise.reject(new Error('x')));
    await within(60_000, Promise.resolve());
  });
});
