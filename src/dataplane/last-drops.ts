/**
 * The last packet that a worker dropped for each reason, in shared memory, so that `flannelctl drops` can show one that
 * nobody watched. On the drop path the worker notes a descriptor, one store; once a batch it writes down the beginning of
 * the last packet of each reason that the batch had, so that a flood of drops costs no more than its batches do.
 *
 * An entry is a count of how often it was written, and two copies of the packet; the count names the copy that is whole. A
 * reader reads again when it has changed meanwhile. Every access is an `Atomics` one, whose order no processor changes.
 */
import { constants as osConstants } from 'node:os';
import { incrementTtl } from '../packet/ipv4.js';
import type { ShownBatch } from './cut-packet.js';
import { ADDRESS, DESCRIPTOR_WORDS, ERROR, FORWARD, LENGTH, OFFSET, PORT, SEGMENTS, VERDICT } from './descriptors.js';
import { DROP_REASONS, DROP_REASON_SLOTS, DropReason } from './drop-reasons.js';

/** The last packet of a direction that was dropped for a reason. */
export interface LastDrop {
  readonly reason: DropReason;
  /** Wall clock, milliseconds since 1970. */
  readonly atMs: number;
  /** The datagram's receiver on the way out, its sender on the way in; 0 before a next hop was found. */
  readonly underlayAddress: number;
  readonly underlayPort: number;
  /** What the kernel said to it, an errno value; 0 when it was not asked. */
  readonly error: number;
  /** The inner packet as it came, its TTL not yet lowered; of a super-packet, one that it is on the wire. */
  readonly packet: Buffer;
  /** Of the whole packet; {@link packet} has its first {@link LAST_DROP_BYTES} at most. */
  readonly lengthBytes: number;
}

/** The IP header and what is telling of the one behind it. */
export const LAST_DROP_BYTES = 96;

// Words of a copy.
const SECONDS = 0;
const MILLISECONDS = 1;
const UNDERLAY_ADDRESS = 2;
const UNDERLAY_PORT = 3;
const ERRNO = 4;
const PACKET_BYTES = 5;
const TTL_LOWERED = 6;
const PACKET = 7;
const COPY_WORDS = PACKET + LAST_DROP_BYTES / 4;
const ENTRY_WORDS = 1 + 2 * COPY_WORDS;

/** Bytes of shared memory for the last drops of one worker. */
export const LAST_DROPS_BYTES = 4 * ENTRY_WORDS * DROP_REASON_SLOTS;

/** The worker's side. */
export class LastDropsWriter {
  private readonly words: Int32Array;
  /** By reason: where the descriptor of the batch's last begins, -1 for none. */
  private readonly noted = new Int32Array(DROP_REASON_SLOTS).fill(-1);
  /** Which packet of the wire it was, of a super-packet. */
  private readonly segments = new Int32Array(DROP_REASON_SLOTS);
  private anyNoted = false;
  private readonly beginning = Buffer.alloc(LAST_DROP_BYTES);
  private readonly beginningWords = new Int32Array(
    this.beginning.buffer,
    this.beginning.byteOffset,
    LAST_DROP_BYTES / 4,
  );

  constructor(private readonly options: ShownBatch) {
    this.words = new Int32Array(options.shared);
  }

  /** The packet whose descriptor begins at `at` was dropped, or that segment of it if it is a super-packet. */
  note(reason: DropReason, at: number, segment = 0): void {
    this.noted[reason] = at;
    this.segments[reason] = segment;
    this.anyNoted = true;
  }

  /** Once a batch, while its packets still lie where they were: shows what was noted. */
  flush(): void {
    if (!this.anyNoted) return;
    this.anyNoted = false;
    const nowMs = Date.now();
    for (let reason = 1; reason < DROP_REASON_SLOTS; reason++) {
      const at = this.noted[reason];
      if (at < 0) continue;
      this.noted[reason] = -1;
      this.write(reason, at, nowMs);
    }
  }

  private write(reason: number, at: number, nowMs: number): void {
    const { words, beginning, beginningWords } = this;
    const { arena, descriptors, direction, cut, cutOffset = 0 } = this.options;
    const passedWalk = descriptors[at + VERDICT] === FORWARD;
    const isCut = cut !== undefined && descriptors[at + SEGMENTS] > 1;
    const length = isCut
      ? cut(at / DESCRIPTOR_WORDS, this.segments[reason], LAST_DROP_BYTES)
      : descriptors[at + LENGTH];
    const offset = isCut ? cutOffset : descriptors[at + OFFSET];
    beginning.fill(0);
    arena.copy(beginning, 0, offset, offset + Math.min(length, LAST_DROP_BYTES));
    const knowsUnderlay = passedWalk || direction === 'decap';
    const refusal = reason === DropReason.PacketTooBig ? osConstants.errno.EMSGSIZE : descriptors[at + ERROR];

    const entry = reason * ENTRY_WORDS;
    const writes = Atomics.load(words, entry) + 1;
    const copy = entry + 1 + (writes & 1) * COPY_WORDS;
    Atomics.store(words, copy + SECONDS, Math.floor(nowMs / 1000) | 0);
    Atomics.store(words, copy + MILLISECONDS, nowMs % 1000);
    Atomics.store(words, copy + UNDERLAY_ADDRESS, knowsUnderlay ? descriptors[at + ADDRESS] : 0);
    Atomics.store(words, copy + UNDERLAY_PORT, knowsUnderlay ? descriptors[at + PORT] : 0);
    Atomics.store(words, copy + ERRNO, passedWalk ? refusal : 0);
    Atomics.store(words, copy + PACKET_BYTES, length);
    Atomics.store(words, copy + TTL_LOWERED, passedWalk ? 1 : 0);
    for (let word = 0; word < beginningWords.length; word++) {
      Atomics.store(words, copy + PACKET + word, beginningWords[word]);
    }
    Atomics.store(words, entry, writes | 0);
  }
}

/** What a worker dropped last, for each reason for which it ever did. */
export function readLastDrops(shared: SharedArrayBuffer): LastDrop[] {
  const words = new Int32Array(shared);
  return DROP_REASONS.flatMap(({ reason }) => readLastDrop(words, reason) ?? []);
}

function readLastDrop(words: Int32Array, reason: DropReason): LastDrop | undefined {
  const entry = reason * ENTRY_WORDS;
  const copied = new Int32Array(COPY_WORDS);
  let writes: number;
  do {
    writes = Atomics.load(words, entry);
    if (writes === 0) return undefined;
    const copy = entry + 1 + (writes & 1) * COPY_WORDS;
    for (let word = 0; word < COPY_WORDS; word++) copied[word] = Atomics.load(words, copy + word);
    // The writer is at work on the other copy, unless it has gone on to this one.
  } while (Atomics.load(words, entry) !== writes);
  const lengthBytes = copied[PACKET_BYTES];
  const kept = Math.min(lengthBytes, LAST_DROP_BYTES);
  const packet = Buffer.from(copied.buffer.slice(PACKET * 4, PACKET * 4 + kept));
  if (copied[TTL_LOWERED] !== 0) incrementTtl(packet, 0);
  return {
    reason,
    atMs: (copied[SECONDS] >>> 0) * 1000 + copied[MILLISECONDS],
    underlayAddress: copied[UNDERLAY_ADDRESS] >>> 0,
    underlayPort: copied[UNDERLAY_PORT],
    error: copied[ERRNO],
    packet,
    lengthBytes,
  };
}

/** Of several workers' last drops the latest of each reason. */
export function latestDrops(drops: readonly LastDrop[]): LastDrop[] {
  const latest = new Map<DropReason, LastDrop>();
  for (const drop of drops) {
    const known = latest.get(drop.reason);
    if (known === undefined || known.atMs < drop.atMs) latest.set(drop.reason, drop);
  }
  return [...latest.values()].sort((a, b) => a.reason - b.reason);
}
