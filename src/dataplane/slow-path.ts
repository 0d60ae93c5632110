/**
 * From a worker to the main thread: copies of the few packets that need thought (somebody is to be told with an ICMP
 * error, a packet is to be cut, a stranger named in the log). A ring of bytes in shared memory with one writer and one
 * reader: the worker never waits, and when the ring is full the packet is merely counted.
 *
 * A record is six words (its size in the ring, the reason, the underlay address, the bytes kept) and the beginning of
 * the packet, padded to 8 bytes. Records never wrap: where one does not fit before the end of the ring, a size of 0
 * says "go on at the beginning". HEAD and TAIL count bytes and only ever grow (modulo 2^32).
 *
 * The worker rings the bell (one message to the main thread) only when PENDING was clear, so at most one message is
 * under way. The main thread clears PENDING when it has read all there was, a little later when there was much: that is
 * what keeps a flood of such packets from taking the main thread's time.
 */
import { DropReason } from './drop-reasons.js';

/** A packet that a worker hands over. */
export interface SlowPathPacket {
  readonly reason: DropReason;
  /** The inner packet, whole or as much of it as was kept; for an unknown sender, nothing. */
  readonly packet: Buffer;
  /** Underlay address of the datagram's sender; 0 on the way out. */
  readonly senderAddress: number;
  /** For {@link DropReason.PacketTooBig}: the largest inner packet that the path carries; 0 otherwise. */
  readonly innerMtuBytes: number;
}

/** As it lies in the ring. */
export interface SlowPathRecord {
  readonly reason: DropReason;
  readonly packet: Buffer;
  /** The datagram's sender on the way in, the next hop on the way out. */
  readonly underlayAddress: number;
}

/** Enough of a packet for every ICMP error, which quotes at most 548 bytes of it (RFC 1812, 4.3.2.3). */
export const QUOTED_BYTES = 576;

const RING_BYTES = 256 * 1024;
const HEADER_BYTES = 64;
const RECORD_HEADER_BYTES = 16;
const HEAD = 0;
const TAIL = 1;
const PENDING = 2;

/** Bytes of shared memory for the ring of one worker. */
export const SLOW_PATH_BYTES = HEADER_BYTES + RING_BYTES;

/** The worker's side. */
export class SlowPathWriter {
  private readonly header: Int32Array;
  private readonly words: Int32Array;
  private readonly bytes: Uint8Array;

  /** @param ringBell - asks the main thread to read */
  constructor(
    shared: SharedArrayBuffer,
    private readonly ringBell: () => void,
  ) {
    this.header = new Int32Array(shared, 0, HEADER_BYTES / 4);
    this.words = new Int32Array(shared, HEADER_BYTES, RING_BYTES / 4);
    this.bytes = new Uint8Array(shared, HEADER_BYTES, RING_BYTES);
  }

  /**
   * Copies `kept` bytes of the packet at `offset` of `arena` into the ring.
   * @returns `false` when there is no room; then nothing was written
   */
  push(reason: DropReason, underlayAddress: number, arena: Uint8Array, offset: number, kept: number): boolean {
    const { header, words, bytes } = this;
    const size = recordBytes(kept);
    let head = header[HEAD];
    const free = RING_BYTES - ((head - Atomics.load(header, TAIL)) >>> 0);
    let at = (head >>> 0) % RING_BYTES;
    const skipped = RING_BYTES - at < size ? RING_BYTES - at : 0;
    if (free < skipped + size) return false;
    // Strangers can send as much as they like; half of the ring is kept for those who have to be told something.
    if (reason === DropReason.UnknownSender && free < RING_BYTES / 2) return false;
    if (skipped > 0) {
      words[at >>> 2] = 0;
      head = (head + skipped) | 0;
      at = 0;
    }
    words[at >>> 2] = size;
    words[(at >>> 2) + 1] = reason;
    words[(at >>> 2) + 2] = underlayAddress;
    words[(at >>> 2) + 3] = kept;
    const start = at + RECORD_HEADER_BYTES;
    for (let index = 0; index < kept; index++) bytes[start + index] = arena[offset + index];
    Atomics.store(header, HEAD, (head + size) | 0);
    if (Atomics.exchange(header, PENDING, 1) === 0) this.ringBell();
    return true;
  }
}

/** The main thread's side. */
export class SlowPathReader {
  private readonly header: Int32Array;
  private readonly words: Int32Array;
  private readonly bytes: Uint8Array;

  constructor(shared: SharedArrayBuffer) {
    this.header = new Int32Array(shared, 0, HEADER_BYTES / 4);
    this.words = new Int32Array(shared, HEADER_BYTES, RING_BYTES / 4);
    this.bytes = new Uint8Array(shared, HEADER_BYTES, RING_BYTES);
  }

  /** Takes out the records that are there now, oldest first, but no more than `limit`. Returns how many there were. */
  drain(handle: (record: SlowPathRecord) => void, limit = Infinity): number {
    const { header, words, bytes } = this;
    const head = Atomics.load(header, HEAD);
    let tail = header[TAIL];
    let count = 0;
    while (tail !== head && count < limit) {
      const at = (tail >>> 0) % RING_BYTES;
      const size = words[at >>> 2];
      if (size === 0) {
        tail = (tail + RING_BYTES - at) | 0;
        continue;
      }
      const kept = words[(at >>> 2) + 3];
      const start = at + RECORD_HEADER_BYTES;
      const record = {
        reason: words[(at >>> 2) + 1] as DropReason,
        underlayAddress: words[(at >>> 2) + 2] >>> 0,
        packet: Buffer.from(bytes.slice(start, start + kept).buffer),
      };
      // Freed before it is handled: a handler that throws must not meet the same record again.
      tail = (tail + size) | 0;
      Atomics.store(header, TAIL, tail);
      count++;
      handle(record);
    }
    return count;
  }

  /**
   * Lets the worker ring again. Returns `false` when something has come in the meantime: then the bell counts as rung,
   * and the reader has to drain once more.
   */
  rest(): boolean {
    const { header } = this;
    Atomics.store(header, PENDING, 0);
    if (Atomics.load(header, HEAD) === header[TAIL]) return true;
    return Atomics.exchange(header, PENDING, 1) !== 0;
  }
}

function recordBytes(kept: number): number {
  return RECORD_HEADER_BYTES + ((kept + 7) & ~7);
}
