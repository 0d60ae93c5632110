import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { SharedAddressSet } from '../../../src/dataplane/shared-address-set.js';

function emptySet(capacity: number): { set: SharedAddressSet; buffer: SharedArrayBuffer } {
  const buffer = new SharedArrayBuffer(SharedAddressSet.byteLength(capacity));
  return { set: new SharedAddressSet(buffer, 0, capacity), buffer };
}

/** Cells that hold anything; the last word counts moves. */
function usedCells(buffer: SharedArrayBuffer): number {
  return new Int32Array(buffer).subarray(0, -1).filter((cell) => cell !== 0).length;
}

test('holds what was added and not removed, in as many cells, whatever the order', () => {
  const change = fc.record({ add: fc.boolean(), address: fc.integer({ min: 0, max: 40 }) });
  const spread = fc.constantFrom(1, 0x01000000, 0x9e3779b1);
  fc.assert(
    fc.property(fc.array(change, { maxLength: 200 }), spread, (changes, factor) => {
      const { set, buffer } = emptySet(16);
      const model = new Set<number>();
      for (const { add, address: number } of changes) {
        const address = Math.imul(number, factor) >>> 0;
        if (!add) {
          set.delete(address);
          model.delete(address);
        } else if (set.add(address)) {
          model.add(address);
        } else {
          assert.ok(address === 0 || model.size === 16);
        }
        assert.equal(usedCells(buffer), model.size);
        for (let other = 0; other <= 40; other++) {
          assert.equal(set.has(Math.imul(other, factor)), model.has(Math.imul(other, factor) >>> 0));
        }
      }
    }),
  );
});

test('members that come and go for long leave nothing behind that would slow a search down', () => {
  const { set, buffer } = emptySet(512);
  const live = Array.from({ length: 500 }, (_, index) => 0x0a000001 + index);
  for (const address of live) set.add(address);
  for (let round = 0; round < 50_000; round++) {
    const index = (round * 7919) % live.length;
    set.delete(live[index]);
    live[index] = (0x0b000001 + Math.imul(round, 0x85ebca6b)) | 1;
    set.add(live[index]);
  }
  assert.equal(usedCells(buffer), new Set(live).size);
  for (const address of live) set.delete(address);
  assert.equal(usedCells(buffer), 0);
});

test('readers in another thread never miss a member that moves because others leave', async () => {
  const capacity = 32;
  const { set, buffer } = emptySet(capacity);
  const control = new SharedArrayBuffer(8);
  const words = new Int32Array(control);
  const residents = Array.from({ length: 12 }, (_, index) => 0xc0a80001 + 3 * index);
  const strangers = Array.from({ length: 12 }, (_, index) => 0xcb007101 + 5 * index);
  const passers = Array.from({ length: 20 }, (_, index) => 0x0a000001 + 7 * index);
  const worker = new Worker(new URL('./shared-address-set-reader-thread.js', import.meta.url), {
    workerData: { buffer, capacity, control, residents, strangers },
  });
  try {
    await once(worker, 'message');
    for (let round = 0; round < 200_000; round++) {
      // Residents come when passers-by are there already: they stand behind them, and move up as those leave.
      for (const address of passers) set.add(address);
      for (const address of residents) set.add(address);
      Atomics.add(words, 1, 1);
      for (const address of passers) set.delete(address);
      Atomics.add(words, 1, 1);
      for (const address of residents) set.delete(address);
    }
    Atomics.store(words, 0, 1);
    const [result] = (await once(worker, 'message')) as [{ missed: number; mistaken: number; looked: number }];
    assert.equal(result.missed, 0);
    assert.equal(result.mistaken, 0);
    assert.ok(result.looked > 0);
  } finally {
    Atomics.store(words, 0, 1);
    await worker.terminate();
  }
});
