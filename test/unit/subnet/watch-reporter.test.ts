/** What the log says of a watch, by a clock that the test moves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../../../src/clock.js';
import { WatchReporter } from '../../../src/subnet/etcd/watch-reporter.js';
import { Timeline } from '../../simulation/timeline.js';

const CLOSED = 'it closed the connection';
const REFUSED = 'it refuses connections';

function watched() {
  const timeline = new Timeline();
  const lines: string[] = [];
  const say = (line: string): void => void lines.push(line);
  const clock: Clock = {
    now: () => timeline.now,
    elapsed: () => timeline.now,
    after: (delayMs, call) => timeline.after(delayMs, call),
  };
  const reporter = new WatchReporter(clock, { debug: say, info: say, warn: say, error: say });
  const pass = async (durationMs: number): Promise<void> => {
    let over = false;
    timeline.after(durationMs, () => (over = true));
    while (!over) await timeline.step();
  };
  return { lines, reporter, pass };
}

test('an outage is told once, once a minute while it lasts, and its end at once', async () => {
  const { lines, reporter, pass } = watched();
  reporter.stands();
  await pass(3_600_000);
  for (let second = 0; second < 90; second++) {
    reporter.broke(CLOSED);
    await pass(1000);
  }
  assert.equal(lines.length, 2);
  reporter.broke(REFUSED);
  reporter.stands();
  assert.deepEqual(lines.slice(2), [
    `the watch on the leases broke off; trying again: ${REFUSED}`,
    'watching the leases again',
  ]);
});

test('a store that comes and goes is told three times and then once a minute, and its end when it has stayed', async () => {
  const { lines, reporter, pass } = watched();
  for (let times = 0; times < 300; times++) {
    reporter.stands();
    await pass(1000);
    // Reasons that change are no news either.
    reporter.broke(CLOSED);
    reporter.broke(REFUSED);
    await pass(1000);
  }
  assert.equal(lines.filter((line) => /again: /.test(line)).length, 6);
  assert.equal(lines.filter((line) => /comes and goes.*once a minute/.test(line)).length, 10);
  assert.equal(lines.length, 6 + 3 + 10);
  reporter.stands();
  assert.equal(lines.length, 19);
  await pass(20_000);
  assert.deepEqual(lines.slice(19), ['watching the leases again']);
  reporter.broke(CLOSED);
  assert.match(lines[20], /broke off; trying again/);
});

test('a watch that nobody needs any more says nothing', async () => {
  const { lines, reporter, pass } = watched();
  for (let times = 0; times < 10; times++) {
    reporter.stands();
    reporter.broke(CLOSED);
  }
  reporter.stands();
  const before = lines.length;
  reporter.close();
  await pass(60_000);
  assert.equal(lines.length, before);
});
