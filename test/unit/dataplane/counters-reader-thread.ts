/** A reader for the test beside this: looks for sums that no single flush can have left. */
import { parentPort, workerData } from 'node:worker_threads';
import { readCounters } from '../../../src/dataplane/counters.js';

const READS = 50_000;

let torn = 0;
const seen = new Set<number>();
for (let reads = 0; reads < READS; reads++) {
  const { packets, bytes, dropped } = readCounters(workerData as SharedArrayBuffer);
  seen.add(packets);
  if (bytes !== packets * 3_000_000_000 || (dropped['no-lease'] ?? 0) !== packets) torn++;
}
parentPort?.postMessage({ reads: READS, distinct: seen.size, torn });
