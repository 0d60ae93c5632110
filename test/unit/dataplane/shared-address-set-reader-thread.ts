/** Looks for members while another thread moves them about; says how often one was missed that was there all the time. */
import { parentPort, workerData } from 'node:worker_threads';
import { SharedAddressSet } from '../../../src/dataplane/shared-address-set.js';

export interface ReaderData {
  readonly buffer: SharedArrayBuffer;
  readonly capacity: number;
  /** Two words: not zero to stop; a phase that is odd while the residents are members. */
  readonly control: SharedArrayBuffer;
  readonly residents: readonly number[];
  readonly strangers: readonly number[];
}

const { buffer, capacity, control, residents, strangers } = workerData as ReaderData;
const set = new SharedAddressSet(buffer, 0, capacity);
const words = new Int32Array(control);
parentPort?.postMessage('ready');
let missed = 0;
let mistaken = 0;
let looked = 0;
while (Atomics.load(words, 0) === 0) {
  for (const address of residents) {
    const phase = Atomics.load(words, 1);
    const found = set.has(address);
    if (phase % 2 === 0 || Atomics.load(words, 1) !== phase) continue;
    looked++;
    if (!found) missed++;
  }
  for (const address of strangers) if (set.has(address)) mistaken++;
}
parentPort?.postMessage({ missed, mistaken, looked });
