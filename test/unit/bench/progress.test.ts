import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { Progress } from '../../../bench/progress.js';

test('a note begins with the name of the program that says it', () => {
  const out = new PassThrough();
  new Progress('bench:compare', out).note('the time is up in round 2 of 9');
  assert.equal(String(out.read()), 'bench:compare: the time is up in round 2 of 9\n');
});

test('where nobody watches a terminal, what is being done is a line each', () => {
  const out = new PassThrough();
  const progress = new Progress('bench', out);
  progress.show('building');
  progress.show('round 1');
  assert.match(String(out.read()), /^\d+:\d\d {2}building\n\d+:\d\d {2}round 1\n$/);
});
