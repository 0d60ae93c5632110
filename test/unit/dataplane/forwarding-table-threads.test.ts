import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { ForwardingTable } from '../../../src/dataplane/forwarding-table.js';

test('readers in other threads never see the next hop of another subnet, however fast the table changes', async () => {
  const SUBNETS = 16;
  const network = { address: 0x0a050000, length: 16 };
  const table = ForwardingTable.create({ network, subnetLength: 24, workers: 2 });
  const stop = new SharedArrayBuffer(4);
  const workers = [0, 1].map(
    (workerIndex) =>
      new Worker(new URL('./forwarding-table-reader-thread.js', import.meta.url), {
        workerData: { buffer: table.buffer, stop, workerIndex, subnets: SUBNETS, firstAddress: network.address },
      }),
  );
  try {
    await Promise.all(workers.map((worker) => once(worker, 'message')));
    for (let round = 1; round <= 300_000; round++) {
      const subnet = round % SUBNETS;
      const prefix = { address: network.address + subnet * 256, length: 24 };
      const half = { address: prefix.address, length: 25 };
      const address = ((round % 100_000) + 1) * SUBNETS + subnet;
      if (round % 7 === 0) table.delete(prefix);
      else {
        // A reader that is kept from the processor keeps slots from being used again, until there is none left.
        while (table.set(round % 11 === 0 ? half : prefix, address, 8285).refused.length > 0) {
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
      }
      if (round % 13 === 0) table.delete(half);
    }
    Atomics.store(new Int32Array(stop), 0, 1);
    const results = await Promise.all(workers.map(async (worker) => (await once(worker, 'message'))[0] as unknown));
    for (const result of results as { wrong: number; seen: number }[]) {
      assert.equal(result.wrong, 0);
      assert.ok(result.seen > 0);
    }
  } finally {
    Atomics.store(new Int32Array(stop), 0, 1);
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
});
