import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CALM_MS, RestartBackoff } from '../../../src/dataplane/restart-backoff.js';

describe('a worker that fails', () => {
  let nowMs = 0;
  const backoff = (): RestartBackoff => {
    nowMs = 1_000_000;
    return new RestartBackoff(() => nowMs);
  };

  test('is started again at once, then later and later, for as long as it carries packets between', () => {
    const worker = backoff();
    const delays = Array.from({ length: 9 }, (_, failure) => worker.failed(failure));
    assert.deepEqual(delays, [0, 100, 200, 400, 800, 1600, 3200, 3200, 3200]);
    assert.equal(worker.inARow, 9);
  });

  test('begins anew after a calm time', () => {
    const worker = backoff();
    assert.equal(worker.inARow, 0);
    for (let failure = 0; failure < 4; failure++) worker.failed(failure);
    nowMs += CALM_MS - 1;
    assert.equal(worker.inARow, 4);
    nowMs++;
    assert.equal(worker.inARow, 0);
    assert.equal(worker.failed(5), 0);
    assert.equal(worker.inARow, 1);
  });

  test('is given up when it carries nothing between its failures', () => {
    const worker = backoff();
    const delays = Array.from({ length: 6 }, () => worker.failed(17));
    assert.deepEqual(delays, [0, 100, 200, 400, 800, undefined]);
  });

  test('is not given up for failures that are far apart, or with packets between', () => {
    const worker = backoff();
    for (let failure = 0; failure < 20; failure++) {
      assert.equal(worker.failed(17), 0);
      nowMs += CALM_MS;
    }
    for (let failure = 0; failure < 20; failure++) assert.notEqual(worker.failed(Math.floor(failure / 4)), undefined);
  });
});
