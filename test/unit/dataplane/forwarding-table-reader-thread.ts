/**
 * A reader for the test beside this: looks addresses up as fast as it can, in batches with a quiescent point after each,
 * and holds every result for a moment before it asks what the slot says.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { ForwardingTableReader } from '../../../src/dataplane/forwarding-table-reader.js';

const { buffer, stop, workerIndex, subnets, firstAddress } = workerData as {
  readonly buffer: SharedArrayBuffer;
  readonly stop: SharedArrayBuffer;
  readonly workerIndex: number;
  readonly subnets: number;
  readonly firstAddress: number;
};

const table = new ForwardingTableReader(buffer);
const stopWord = new Int32Array(stop);
const held = new Int32Array(subnets);
let wrong = 0;
let seen = 0;
table.online(workerIndex);
parentPort?.postMessage('online');
while (Atomics.load(stopWord, 0) === 0) {
  for (let subnet = 0; subnet < subnets; subnet++) held[subnet] = table.lookup(firstAddress + subnet * 256 + 7);
  for (let subnet = 0; subnet < subnets; subnet++) {
    if (held[subnet] < 0) continue;
    seen++;
    // The writer gives subnet n only addresses that leave the remainder n.
    if (table.slotAddress(held[subnet]) % subnets !== subnet) wrong++;
  }
  table.offline(workerIndex);
  table.online(workerIndex);
}
table.offline(workerIndex);
parentPort?.postMessage({ wrong, seen });
