/**
 * From a worker to the main thread: copies of packets for people who watch (`flannelctl trace` and `capture`). A ring of
 * bytes in shared memory with one writer and one reader, beside that of `slow-path.ts` and never in its way.
 *
 * Nobody watches: the worker loads one word a batch. Somebody does: it copies what is demanded (one packet in so many,
 * drawn by counting down, and so many bytes of each) between its walk and the transmit call, for that may rewrite headers; when the kernel has spoken,
 * it completes the verdicts and shows the whole batch to the reader with one store. Where the ring is full, the record is
 * lost and counted, and the packet goes on. There is no bell: the main thread looks while somebody watches.
 *
 * A record is sixteen words and the beginning of the packet, padded to 8 bytes. Records never wrap: where one does not
 * fit before the end of the ring, a size of 0 says "go on at the beginning". HEAD and TAIL count bytes and only ever grow
 * (modulo 2^32).
 *
 * A super-packet is one record (its headers as the device handed it over); for those who want what is on the wire, each
 * packet that it is cut into is one besides.
 */
import { constants as osConstants } from 'node:os';
import { incrementTtl } from '../packet/ipv4.js';
import type { ShownBatch } from './cut-packet.js';
import { ADDRESS, DESCRIPTOR_WORDS, ERROR, FORWARD, LENGTH, OFFSET, PORT, VERDICT } from './descriptors.js';
import { FIRST_FAILED, LAST_FAILED, MERGED, SEGMENTS } from './descriptors.js';
import { DropReason } from './drop-reasons.js';

/** What a worker is to record. */
export interface TapDemand {
  /** One in so many of the packets that went on; 0: none. */
  readonly everyPassed: number;
  /** One in so many of the dropped; 0: none. */
  readonly everyDropped: number;
  /** Bytes of each packet, at most. */
  readonly keptBytes: number;
  /** Whether the packets that a super-packet is cut into are recorded besides. */
  readonly wirePackets: boolean;
}

/** What became of one packet. */
export interface TapRecord {
  /** Why it was dropped; 0: it went on. */
  readonly reason: DropReason | 0;
  /** What the kernel said to it, an errno value; 0 when it was not asked, or agreed. */
  readonly error: number;
  /** The datagram's receiver on the way out, its sender on the way in; 0 before a next hop was found. */
  readonly underlayAddress: number;
  readonly underlayPort: number;
  /** The inner packet as it came, its TTL not yet lowered; as much of it as was kept. */
  readonly packet: Buffer;
  /** Of the whole packet. */
  readonly lengthBytes: number;
  /** Packets that it is on the wire; more than 1 for a super-packet. */
  readonly segments: number;
  /** Which of them this is; -1 for the super-packet itself and for a packet that was never one. */
  readonly segment: number;
  /** When the worker had received the batch, in nanoseconds of CLOCK_MONOTONIC: the same for all of the batch. */
  readonly monotonicNs: bigint;
  /** Packets in the batch. */
  readonly batchPackets: number;
  /** Packets that were written to the device as one, this one among them; 1 for one by itself, and on the way out. */
  readonly merged: number;
  /** This record stands for so many packets, on average. */
  readonly every: number;
}

/** The tap of one worker, as the main thread has it. */
export interface WorkerTap {
  readonly direction: 'encap' | 'decap';
  /** Of the device, or the socket that it reads. */
  readonly queue: number;
  readonly reader: TapReader;
}

const RING_BYTES = 4 * 1024 * 1024;
const HEADER_BYTES = 64;

// Words of the ring's header.
const HEAD = 0;
const TAIL = 1;
/** Raised with each demand; 0: nothing is to be recorded. */
const DEMAND = 2;
const EVERY_PASSED = 3;
const EVERY_DROPPED = 4;
const KEPT_BYTES = 5;
const WIRE_PACKETS = 6;
/** Records that found no room. */
const LOST = 7;

// Words of a record.
const SIZE = 0;
const REASON = 1;
const ERRNO = 2;
const UNDERLAY_ADDRESS = 3;
const UNDERLAY_PORT = 4;
const PACKET_BYTES = 5;
const KEPT = 6;
const RECORD_SEGMENTS = 7;
const SEGMENT = 8;
const SECONDS = 9;
const NANOSECONDS = 10;
const BATCH = 11;
const EVERY = 12;
/** Where the packet's descriptor begins. */
const DESCRIPTOR = 13;
/** Whether the walk has taken one hop off the TTL. */
const TTL_LOWERED = 14;
const RECORD_MERGED = 15;
const RECORD_HEADER_BYTES = 64;

const NOT_CUT = -1;

/** Bytes of shared memory for the tap of one worker; they are backed by memory only once somebody has watched. */
export const TAP_BYTES = HEADER_BYTES + RING_BYTES;

/** The worker's side. */
export class TapWriter {
  private readonly header: Int32Array;
  private readonly words: Int32Array;
  private readonly bytes: Uint8Array;
  private readonly options: ShownBatch;
  /** By descriptor: whether this batch's packet was recorded as one that went on; kept where two draws may meet. */
  private readonly recorded: Uint8Array;
  /** The kernel may still refuse these, and then they are to be recorded as dropped: how many, and which. */
  private waiting = 0;
  private readonly waitingFor: Int32Array;
  private demand = 0;
  /** Packets, of whatever verdict, until the next that is recorded if it went on. */
  private untilPassed = 0;
  /** The same for one that is dropped. */
  private untilDropped = 0;
  /** Where the next record goes; the reader learns it when the batch is complete. */
  private head = 0;
  /** Packets of this batch that were recorded. */
  private records = 0;
  private seconds = 0;
  private nanoseconds = 0;
  private batchPackets = 0;

  constructor(options: ShownBatch) {
    const { shared, descriptors } = options;
    this.options = options;
    this.header = new Int32Array(shared, 0, HEADER_BYTES / 4);
    this.words = new Int32Array(shared, HEADER_BYTES, RING_BYTES / 4);
    this.bytes = new Uint8Array(shared, HEADER_BYTES, RING_BYTES);
    this.recorded = new Uint8Array(descriptors.length / DESCRIPTOR_WORDS);
    this.waitingFor = new Int32Array(descriptors.length / DESCRIPTOR_WORDS);
    this.head = this.header[HEAD];
  }

  /** Between walk and transmit: copies what is demanded of the first `count` packets. */
  observe(count: number): void {
    const demand = Atomics.load(this.header, DEMAND);
    if (demand === 0) {
      this.demand = 0;
      return;
    }
    if (demand !== this.demand) this.begin(demand);
    this.batchPackets = count;
    this.waiting = 0;
    this.records = 0;
    const everyPassed = this.header[EVERY_PASSED];
    const everyDropped = this.header[EVERY_DROPPED];
    // One in so many of all packets is looked at, so that a batch without one of those costs a comparison or two. Where the
    // passed and the dropped are wanted equally often, one draw is for both.
    const together = everyPassed === everyDropped;
    if (!together) this.recorded.fill(0, 0, count);
    if (everyPassed > 0) {
      let index = this.untilPassed - 1;
      for (; index < count; index += distance(everyPassed)) this.look(index, true, together);
      this.untilPassed = index - count + 1;
    }
    if (everyDropped > 0 && !together) {
      let index = this.untilDropped - 1;
      for (; index < count; index += distance(everyDropped)) this.look(index, false, true);
      this.untilDropped = index - count + 1;
    }
  }

  /** After transmit: completes the verdicts, and shows the records to the reader. */
  conclude(): void {
    if (this.demand === 0 || this.waiting + this.records === 0) return;
    const { waitingFor } = this;
    const { descriptors } = this.options;
    this.completeVerdicts();
    const everyDropped = this.header[EVERY_DROPPED];
    for (let next = 0; next < this.waiting; next++) {
      const at = waitingFor[next] * DESCRIPTOR_WORDS;
      if (descriptors[at + ERROR] === 0) continue;
      const start = this.head;
      this.record(at, everyDropped);
      this.completeVerdicts(start);
    }
    Atomics.store(this.header, HEAD, this.head);
  }

  /** Records a packet that was drawn, if it is one of those that were drawn for. */
  private look(index: number, passed: boolean, dropped: boolean): void {
    const at = index * DESCRIPTOR_WORDS;
    if (this.options.descriptors[at + VERDICT] !== FORWARD) {
      if (dropped) this.record(at, this.header[EVERY_DROPPED]);
    } else if (passed) {
      this.recorded[index] = 1;
      this.record(at, this.header[EVERY_PASSED]);
    } else if (this.recorded[index] === 0) {
      this.waitingFor[this.waiting++] = index;
    }
  }

  private begin(demand: number): void {
    this.demand = demand;
    this.untilPassed = distance(this.header[EVERY_PASSED]);
    this.untilDropped = distance(this.header[EVERY_DROPPED]);
  }

  private record(at: number, every: number): void {
    const { arena, descriptors, cut, cutOffset = 0 } = this.options;
    const index = at / DESCRIPTOR_WORDS;
    const segments = Math.max(1, descriptors[at + SEGMENTS]);
    const wirePackets = cut !== undefined && this.header[WIRE_PACKETS] !== 0;
    const keptBytes = this.header[KEPT_BYTES];
    // Read for the first record of a batch only: of most batches a sample has none.
    if (this.records++ === 0) [this.seconds, this.nanoseconds] = process.hrtime();
    if (segments > 1 && cut !== undefined) {
      // It lies in the arena with gaps in it, and once it is sent with the header of its first segment.
      this.push(at, every, arena, cutOffset, cut(index, NOT_CUT, keptBytes), NOT_CUT);
    } else if (!wirePackets) {
      this.push(at, every, arena, descriptors[at + OFFSET], descriptors[at + LENGTH], NOT_CUT);
    }
    for (let segment = 0; wirePackets && segment < segments; segment++) {
      this.push(at, every, arena, cutOffset, cut(index, segment, keptBytes), segments > 1 ? segment : NOT_CUT);
    }
  }

  private push(at: number, every: number, from: Buffer, offset: number, length: number, segment: number): void {
    const { header, words, bytes } = this;
    const { descriptors } = this.options;
    const kept = Math.min(length, header[KEPT_BYTES]);
    const size = RECORD_HEADER_BYTES + ((kept + 7) & ~7);
    const free = RING_BYTES - ((this.head - Atomics.load(header, TAIL)) >>> 0);
    let place = (this.head >>> 0) % RING_BYTES;
    const skipped = RING_BYTES - place < size ? RING_BYTES - place : 0;
    if (free < skipped + size) {
      Atomics.add(header, LOST, 1);
      return;
    }
    if (skipped > 0) {
      words[place >>> 2] = 0;
      this.head = (this.head + skipped) | 0;
      place = 0;
    }
    const verdict = descriptors[at + VERDICT];
    const word = place >>> 2;
    words[word + SIZE] = size;
    words[word + REASON] = verdict;
    words[word + ERRNO] = 0;
    words[word + UNDERLAY_ADDRESS] = this.knowsUnderlay(verdict) ? descriptors[at + ADDRESS] : 0;
    words[word + UNDERLAY_PORT] = this.knowsUnderlay(verdict) ? descriptors[at + PORT] : 0;
    words[word + PACKET_BYTES] = length;
    words[word + KEPT] = kept;
    words[word + RECORD_SEGMENTS] = Math.max(1, descriptors[at + SEGMENTS]);
    words[word + SEGMENT] = segment;
    words[word + SECONDS] = this.seconds;
    words[word + NANOSECONDS] = this.nanoseconds;
    words[word + BATCH] = this.batchPackets;
    words[word + EVERY] = every;
    words[word + DESCRIPTOR] = at;
    words[word + TTL_LOWERED] = verdict === FORWARD ? 1 : 0;
    words[word + RECORD_MERGED] = 1;
    from.copy(bytes, place + RECORD_HEADER_BYTES, offset, offset + kept);
    this.head = (this.head + size) | 0;
  }

  /** On the way out the descriptor of a packet that found no next hop still names that of an earlier one. */
  private knowsUnderlay(verdict: number): boolean {
    return verdict === FORWARD || this.options.direction === 'decap';
  }

  /** Gives the records from `start` on (the batch's first, by default) what became of their packets at the kernel. */
  private completeVerdicts(start = this.header[HEAD]): void {
    const { words } = this;
    const { descriptors, direction } = this.options;
    const incoming = direction === 'decap';
    for (let position = start; position !== this.head;) {
      const place = (position >>> 0) % RING_BYTES;
      const word = place >>> 2;
      if (words[word + SIZE] === 0) {
        position = (position + RING_BYTES - place) | 0;
        continue;
      }
      const at = words[word + DESCRIPTOR];
      if (incoming && words[word + REASON] === FORWARD) words[word + RECORD_MERGED] = descriptors[at + MERGED];
      if (words[word + REASON] === FORWARD && this.failed(at, words[word + SEGMENT])) {
        words[word + ERRNO] = descriptors[at + ERROR];
        words[word + REASON] = this.reasonFor(descriptors[at + ERROR]);
        // Whatever it was drawn as, now it is one of the dropped.
        words[word + EVERY] = Math.max(1, this.header[EVERY_DROPPED]);
      }
      position = (position + words[word + SIZE]) | 0;
    }
  }

  /** Whether the kernel refused a packet, or one of those that a super-packet was cut into. */
  private failed(at: number, segment: number): boolean {
    const { descriptors } = this.options;
    if (descriptors[at + ERROR] === 0) return false;
    return segment < 0 || (segment >= descriptors[at + FIRST_FAILED] && segment <= descriptors[at + LAST_FAILED]);
  }

  private reasonFor(error: number): DropReason {
    if (this.options.direction === 'decap') return DropReason.WriteFailed;
    return error === osConstants.errno.EMSGSIZE ? DropReason.PacketTooBig : DropReason.SendFailed;
  }
}

/**
 * Packets until the next that is recorded: `every` on average, but not always, for traffic has rhythms of its own and
 * every thousandth packet might always be the same flow's.
 */
function distance(every: number): number {
  return every <= 1 ? 1 : 1 + Math.floor(Math.random() * (2 * every - 1));
}

/** The main thread's side. */
export class TapReader {
  private readonly header: Int32Array;
  private readonly words: Int32Array;
  private readonly bytes: Uint8Array;
  private generation = 0;

  constructor(shared: SharedArrayBuffer) {
    this.header = new Int32Array(shared, 0, HEADER_BYTES / 4);
    this.words = new Int32Array(shared, HEADER_BYTES, RING_BYTES / 4);
    this.bytes = new Uint8Array(shared, HEADER_BYTES, RING_BYTES);
  }

  /** Asks the worker for records from its next batch on, or, with `undefined`, for no more. */
  demand(demand: TapDemand | undefined): void {
    const { header } = this;
    if (demand === undefined) {
      Atomics.store(header, DEMAND, 0);
      return;
    }
    Atomics.store(header, EVERY_PASSED, demand.everyPassed);
    Atomics.store(header, EVERY_DROPPED, demand.everyDropped);
    Atomics.store(header, KEPT_BYTES, demand.keptBytes);
    Atomics.store(header, WIRE_PACKETS, demand.wirePackets ? 1 : 0);
    this.generation = this.generation === 0x7fffffff ? 1 : this.generation + 1;
    Atomics.store(header, DEMAND, this.generation);
  }

  /** Records that found no room in the ring, ever (modulo 2^32). */
  get lost(): number {
    return Atomics.load(this.header, LOST) >>> 0;
  }

  /** Throws away what nobody has read. */
  discard(): void {
    Atomics.store(this.header, TAIL, Atomics.load(this.header, HEAD));
  }

  /**
   * Takes out the records that are there now, oldest first, but no more than `limit`.
   * @returns whether some were left
   */
  drain(handle: (record: TapRecord) => void, limit: number): boolean {
    const { header, words } = this;
    const head = Atomics.load(header, HEAD);
    let tail = header[TAIL];
    for (let count = 0; tail !== head && count < limit;) {
      const place = (tail >>> 0) % RING_BYTES;
      const size = words[(place >>> 2) + SIZE];
      if (size === 0) {
        tail = (tail + RING_BYTES - place) | 0;
        continue;
      }
      const record = this.recordAt(place);
      // Freed before it is handled: a handler that throws must not meet the same record again.
      tail = (tail + size) | 0;
      Atomics.store(header, TAIL, tail);
      count++;
      handle(record);
    }
    return tail !== head;
  }

  private recordAt(place: number): TapRecord {
    const { words } = this;
    const word = place >>> 2;
    const start = place + RECORD_HEADER_BYTES;
    const packet = Buffer.from(this.bytes.slice(start, start + words[word + KEPT]).buffer);
    if (words[word + TTL_LOWERED] !== 0) incrementTtl(packet, 0);
    return {
      reason: words[word + REASON] as DropReason | 0,
      error: words[word + ERRNO],
      underlayAddress: words[word + UNDERLAY_ADDRESS] >>> 0,
      underlayPort: words[word + UNDERLAY_PORT],
      packet,
      lengthBytes: words[word + PACKET_BYTES],
      segments: words[word + RECORD_SEGMENTS],
      segment: words[word + SEGMENT],
      monotonicNs: BigInt(words[word + SECONDS]) * 1_000_000_000n + BigInt(words[word + NANOSECONDS]),
      batchPackets: words[word + BATCH],
      merged: words[word + RECORD_MERGED],
      every: words[word + EVERY],
    };
  }
}
