import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backoff } from '../../../src/subnet/etcd/backoff.js';
import { pause, systemClock } from '../../../src/clock.js';

test('waits double from 100 ms to three quarters of a second, each between half and all of it', () => {
  const least = new Backoff(() => 0);
  const most = new Backoff(() => 1 - Number.EPSILON);
  const ceilings = [100, 200, 400, 750, 750];
  for (const ceiling of ceilings) {
    assert.equal(least.nextMs(), ceiling / 2);
    assert.equal(Math.round(most.nextMs()), ceiling);
  }
  least.reset();
  assert.equal(least.nextMs(), 50);
});

test('a pause ends early, and quietly, when it is aborted', async () => {
  const abort = new AbortController();
  const paused = pause(systemClock, 3_600_000, abort.signal);
  abort.abort();
  await paused;
  await pause(systemClock, 3_600_000, abort.signal);
});

test('a pause longer than a timer can be is no short one', async () => {
  const abort = new AbortController();
  let over = false;
  const paused = pause(systemClock, Infinity, abort.signal).then(() => (over = true));
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(over, false);
  abort.abort();
  await paused;
});
