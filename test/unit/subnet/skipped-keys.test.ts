import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '../../../src/log.js';
import { SkippedKeys } from '../../../src/subnet/etcd/skipped-keys.js';

test('a flood of keys that are no leases fills neither the log nor hides what comes later', () => {
  const lines: string[] = [];
  let nowMs = 0;
  const logger = { ...silentLogger, warn: (line: string) => void lines.push(line) };
  const keys = new SkippedKeys({ folder: '/p/subnets/', logger, nowMs: () => nowMs });
  for (let number = 0; number < 1000; number++) {
    keys.add(`key ${number}`, 'its name is no subnet');
    // One whose value changes again and again is as many lines.
    keys.add('10.5.1.0-24', `not JSON (${number})`);
    keys.settled();
  }
  assert.equal(lines.length, 33);
  assert.match(lines[0], /"\/p\/subnets\/key 0", which holds no lease of this network: its name is no subnet$/);
  assert.match(lines[32], /more keys under \/p\/subnets\/ hold no lease/);
  nowMs = 10 * 60_000;
  keys.add('late', 'its name is no subnet');
  assert.equal(lines.length, 34);
  assert.match(lines[33], /late/);
});

test('what is listed anew is not said anew, and what is gone is not counted', () => {
  const lines: string[] = [];
  const counts: number[] = [];
  const logger = { ...silentLogger, warn: (line: string) => void lines.push(line) };
  const observer = { request() {}, watchRestarted() {}, skippedKeys: (count: number) => void counts.push(count) };
  const keys = new SkippedKeys({ folder: '/p/', logger, observer });
  for (const names of [['a', 'b'], ['b'], ['a', 'b']]) {
    keys.beginAnew();
    for (const name of names) keys.add(name, 'bad');
    keys.settled();
  }
  assert.deepEqual(counts, [2, 1, 2]);
  assert.deepEqual(
    lines.map((line) => /"\/p\/(.)"/.exec(line)?.[1]),
    ['a', 'b', 'a'],
  );
});
