import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { bytesPerOperation } from '../../../bench/micro/allocations.js';
import { COUNTERS_BYTES, readCounters, sumCounters, WorkerCounters } from '../../../src/dataplane/counters.js';
import { DropReason } from '../../../src/dataplane/drop-reasons.js';

test('nothing is visible before a flush, and all of it after', () => {
  const block = new SharedArrayBuffer(COUNTERS_BYTES);
  const counters = new WorkerCounters(block);
  counters.forwarded(1, 84);
  counters.forwarded(3, 1472);
  counters.dropped(DropReason.NoLease, 2);
  counters.batch();
  counters.receiveError();
  counters.slowPathOverflow();
  assert.equal(readCounters(block).packets, 0);
  counters.flush();
  assert.deepEqual(readCounters(block), {
    packets: 4,
    bytes: 1556,
    dropped: { 'no-lease': 2 },
    batches: 1,
    receiveErrors: 1,
    slowPathOverflows: 1,
  });
});

test('sums beyond 32 bits are exact', () => {
  const block = new SharedArrayBuffer(COUNTERS_BYTES);
  const counters = new WorkerCounters(block);
  for (const bytes of [2 ** 31, 2 ** 31 - 1, 1, 2 ** 40, 12_345]) {
    const before = readCounters(block).bytes;
    counters.forwarded(1, bytes);
    counters.flush();
    assert.equal(readCounters(block).bytes, before + bytes);
  }
});

test('a worker that takes over a block goes on counting, even if its predecessor died while it wrote', () => {
  const block = new SharedArrayBuffer(COUNTERS_BYTES);
  const first = new WorkerCounters(block);
  first.forwarded(1, 2 ** 33);
  first.flush();
  // Half of a flush: words of the copy that is next in turn, but not the number that would make it count.
  const words = new Int32Array(block);
  const copyWords = (words.length - 1) / 4;
  words.fill(-1, 1 + 2 * copyWords, 1 + 2 * copyWords + 5);
  assert.equal(readCounters(block).packets, 1);
  const second = new WorkerCounters(block);
  second.forwarded(1, 1);
  second.flush();
  assert.equal(readCounters(block).packets, 2);
  assert.equal(readCounters(block).bytes, 2 ** 33 + 1);
});

test('a reader in another thread never sees half a flush', async () => {
  const block = new SharedArrayBuffer(COUNTERS_BYTES);
  const reader = new Worker(new URL('./counters-reader-thread.js', import.meta.url), { workerData: block });
  const ended = once(reader, 'message');
  const counters = new WorkerCounters(block);
  let done = false;
  ended.then(
    () => (done = true),
    () => (done = true),
  );
  while (!done) {
    for (let round = 0; round < 2000; round++) {
      // Each packet has three billion bytes, so that the high words change all the time.
      counters.forwarded(1, 3_000_000_000);
      counters.dropped(DropReason.NoLease, 1);
      counters.flush();
    }
    await new Promise(setImmediate);
  }
  const [verdict] = (await ended) as [{ reads: number; distinct: number; torn: number }];
  assert.equal(verdict.torn, 0);
  assert.ok(verdict.distinct > 1, `the reader saw ${verdict.distinct} states in ${verdict.reads} reads`);
});

test('directions add up by reason', () => {
  assert.deepEqual(
    sumCounters([
      { packets: 1, bytes: 10, dropped: { 'no-lease': 2 } },
      { packets: 2, bytes: 20, dropped: { 'no-lease': 1, truncated: 5 } },
    ]),
    { packets: 3, bytes: 30, dropped: { 'no-lease': 3, truncated: 5 } },
  );
});

test('counting leaves nothing for the garbage collector, however much was counted', () => {
  const counters = new WorkerCounters(new SharedArrayBuffer(COUNTERS_BYTES));
  counters.forwarded(3e9, 5e12);
  const batch = (): void => {
    counters.forwarded(45, 64_000);
    counters.batch();
    counters.flush();
  };
  assert.equal(bytesPerOperation(batch), 0);
});
