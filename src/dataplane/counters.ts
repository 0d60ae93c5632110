/**
 * What the workers did, in shared memory: each worker has a block of its own that only it writes, so nothing is ever
 * locked, and whoever asks (a scrape, `flannelctl status`) reads all of them without a worker noticing.
 *
 * A counter is 64 bits wide, in two 32-bit words, for no machine with 32 bits could store it at once. So that nobody sees
 * the halves of different moments, a block holds several copies of all counters: a flush fills the copy that is next in
 * turn and then raises a number that says how many flushes there were, which names the copy that is whole. A reader is
 * only disturbed when the writer goes round all copies while it reads, and then reads again; a writer that is held up, or
 * dies, holds nobody up. Every access is an `Atomics` one, whose order no processor changes. A worker flushes once a batch.
 */
import { DROP_REASON_SLOTS, namedDropCounts, type DropReason } from './drop-reasons.js';

/** What has passed in one direction. */
export interface DirectionCounters {
  /** Packets forwarded, as they are on the wire: what a super-packet is cut into, or merged from, counts one by one. */
  readonly packets: number;
  /** Inner bytes forwarded: IP header and payload. */
  readonly bytes: number;
  /** By the stable names of `DropReason`; reasons that never occurred are left out. */
  readonly dropped: Readonly<Record<string, number>>;
}

/** What one worker did. */
export interface WorkerCounts extends DirectionCounters {
  readonly batches: number;
  /** Times that reading from the device or the socket failed. */
  readonly receiveErrors: number;
  /** Packets that the main thread never heard of, for it was busy with earlier ones. */
  readonly slowPathOverflows: number;
}

const PACKETS = 0;
const BYTES = 1;
const BATCHES = 2;
const RECEIVE_ERRORS = 3;
const SLOW_PATH_OVERFLOWS = 4;
const FIRST_REASON = 5;
const COUNTERS = FIRST_REASON + DROP_REASON_SLOTS;
const COPIES = 4;
const COPY_WORDS = 2 * COUNTERS;
const BLOCK_WORDS = 1 + COPIES * COPY_WORDS;
const TWO_TO_32 = 2 ** 32;

/** Bytes of shared memory for the counters of one worker. */
export const COUNTERS_BYTES = 4 * BLOCK_WORDS;

/** The worker's side. Adding is a plain addition in private memory; {@link flush} makes the sums known. */
export class WorkerCounters {
  private readonly sums = new Float64Array(COUNTERS);
  /** What each copy holds, so that only what differs is written. */
  private readonly copies: readonly Float64Array[];
  private readonly words: Int32Array;

  /** Goes on from what the block holds, which a worker that failed may have left. */
  constructor(block: SharedArrayBuffer) {
    this.words = new Int32Array(block, 0, BLOCK_WORDS);
    this.copies = Array.from({ length: COPIES }, (_, copy) => readCopy(this.words, copy));
    this.sums.set(this.copies[flushesOf(this.words) % COPIES]);
  }

  forwarded(packets: number, bytes: number): void {
    this.sums[PACKETS] += packets;
    this.sums[BYTES] += bytes;
  }

  dropped(reason: DropReason, packets: number): void {
    this.sums[FIRST_REASON + reason] += packets;
  }

  batch(): void {
    this.sums[BATCHES]++;
  }

  receiveError(): void {
    this.sums[RECEIVE_ERRORS]++;
  }

  slowPathOverflow(): void {
    this.sums[SLOW_PATH_OVERFLOWS]++;
  }

  /** Makes everything added so far visible to readers, all at once. */
  flush(): void {
    const { sums, words } = this;
    const flushes = flushesOf(words) + 1;
    const copy = flushes % COPIES;
    const known = this.copies[copy];
    for (let counter = 0; counter < COUNTERS; counter++) {
      const sum = sums[counter];
      if (sum === known[counter]) continue;
      known[counter] = sum;
      const at = 1 + copy * COPY_WORDS + 2 * counter;
      // As signed integers: larger ones would be objects on the heap, one each time.
      Atomics.store(words, at, sum | 0);
      Atomics.store(words, at + 1, (sum / TWO_TO_32) | 0);
    }
    Atomics.store(words, 0, flushes | 0);
  }
}

/** Reads the block of one worker, as it was after one of its batches. */
export function readCounters(block: SharedArrayBuffer): WorkerCounts {
  const words = new Int32Array(block, 0, BLOCK_WORDS);
  let values: Float64Array;
  let flushes: number;
  do {
    flushes = flushesOf(words);
    values = readCopy(words, flushes % COPIES);
    // The writer may be at work on the copy after the one that is whole by now.
  } while ((flushesOf(words) - flushes) >>> 0 >= COPIES - 1);
  return {
    packets: values[PACKETS],
    bytes: values[BYTES],
    dropped: namedDropCounts(values.subarray(FIRST_REASON)),
    batches: values[BATCHES],
    receiveErrors: values[RECEIVE_ERRORS],
    slowPathOverflows: values[SLOW_PATH_OVERFLOWS],
  };
}

/** What several workers of one direction did together. */
export function sumCounters(counts: readonly DirectionCounters[]): DirectionCounters {
  const dropped: Record<string, number> = {};
  for (const { dropped: some } of counts) {
    for (const [reason, packets] of Object.entries(some)) dropped[reason] = (dropped[reason] ?? 0) + packets;
  }
  return {
    packets: counts.reduce((sum, { packets }) => sum + packets, 0),
    bytes: counts.reduce((sum, { bytes }) => sum + bytes, 0),
    dropped,
  };
}

/** Flushes so far, modulo 2^32. */
function flushesOf(words: Int32Array): number {
  return Atomics.load(words, 0) >>> 0;
}

function readCopy(words: Int32Array, copy: number): Float64Array {
  const values = new Float64Array(COUNTERS);
  for (let counter = 0; counter < COUNTERS; counter++) {
    const at = 1 + copy * COPY_WORDS + 2 * counter;
    values[counter] = (Atomics.load(words, at) >>> 0) + Atomics.load(words, at + 1) * TWO_TO_32;
  }
  return values;
}
