import assert from 'node:assert/strict';
import { test } from 'node:test';
import { simulate } from '../../simulation/simulate.js';

const SEED = 1;

test('whatever happens to nodes, their network and the store, leases stay sound', async (context) => {
  context.diagnostic(`seed ${SEED}: npm run simulate -- --seed ${SEED} does the same`);
  const { steps, happened } = await simulate(100_000, SEED);
  assert.ok(steps >= 100_000);
  // Each kind of trouble was there.
  assert.ok(happened.size >= 19, [...happened.keys()].join(', '));
});

test('the same seed does the same again', async () => {
  const [once, again] = [await simulate(5_000, 7), await simulate(5_000, 7)];
  assert.deepEqual([once.steps, once.hours, [...once.happened]], [again.steps, again.hours, [...again.happened]]);
});
