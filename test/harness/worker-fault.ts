/**
 * Makes the packet workers of an agent throw. Loaded before the agent's own code (`NODE_OPTIONS=--import=…`), into its main
 * thread and into each worker: with each SIGUSR2 each worker throws once, when it next has packets in hand or starts.
 */
import { getEnvironmentData, isMainThread, setEnvironmentData, workerData } from 'node:worker_threads';

const KEY = 'faults that workers are to have';
const DIRECTIONS = ['encap', 'decap'];

if (isMainThread) {
  const due = new Int32Array(new SharedArrayBuffer(4 * DIRECTIONS.length));
  setEnvironmentData(KEY, due);
  process.on('SIGUSR2', () => due.forEach((_, index) => Atomics.add(due, index, 1)));
} else {
  const due = getEnvironmentData(KEY) as unknown as Int32Array;
  const index = DIRECTIONS.indexOf((workerData as { direction: string }).direction);
  const store = Atomics.store.bind(Atomics) as (words: Int32Array, at: number, value: number) => number;
  // A worker stores its epoch, which is not 0, between the receipt of packets and the walk over them.
  Object.assign(Atomics, {
    store(words: Int32Array, at: number, value: number): number {
      if (value !== 0 && Atomics.load(due, index) > 0 && Atomics.sub(due, index, 1) > 0) {
        throw new Error('a fault that was ordered');
      }
      return store(words, at, value);
    },
  });
}
