/** Synthetic batches for the walks: packets in an arena, descriptors as the native calls leave them. */
import { WorkerCounters, COUNTERS_BYTES, readCounters, type WorkerCounts } from '../../../src/dataplane/counters.js';
import { constants } from 'node:os';
import type { CutPacket } from '../../../src/dataplane/cut-packet.js';
import {
  ADDRESS,
  DESCRIPTOR_WORDS,
  ERROR,
  FIRST_TOO_BIG,
  LAST_TOO_BIG,
  LENGTH,
  MAX_PACKET_BYTES,
  OFFSET,
  PORT,
  SEGMENTS,
  SENT_BYTES,
  SENT_PACKETS,
  TOO_BIG_PACKETS,
  VERDICT,
} from '../../../src/dataplane/descriptors.js';
import { LAST_DROPS_BYTES, LastDropsWriter, readLastDrops, type LastDrop } from '../../../src/dataplane/last-drops.js';
import {
  SLOW_PATH_BYTES,
  SlowPathReader,
  SlowPathWriter,
  type SlowPathRecord,
} from '../../../src/dataplane/slow-path.js';
import { PROTOCOL_UDP, writeIpv4Header, type Ipv4Header } from '../../../src/packet/ipv4.js';
import { ip } from '../../support/addresses.js';

const PACKET_BYTES = 2048;
const PACKETS = 16;

export class Arena {
  readonly arena = Buffer.alloc(PACKET_BYTES * PACKETS + MAX_PACKET_BYTES);
  readonly descriptors = new Int32Array(PACKETS * DESCRIPTOR_WORDS).fill(-99);
  private readonly countersBlock = new SharedArrayBuffer(COUNTERS_BYTES);
  readonly counters = new WorkerCounters(this.countersBlock);
  private readonly ring = new SharedArrayBuffer(SLOW_PATH_BYTES);
  readonly slowPath = new SlowPathWriter(this.ring, () => undefined);
  private readonly reader = new SlowPathReader(this.ring);
  private readonly lastDropsBlock = new SharedArrayBuffer(LAST_DROPS_BYTES);
  private lastDropsWriter: LastDropsWriter | undefined;
  count = 0;

  /** What a walker over this arena is made of. @param cut - as an outgoing worker has it */
  parts(direction: 'encap' | 'decap', cut?: CutPacket) {
    const { arena, descriptors, counters, slowPath, lastDropsBlock: shared } = this;
    const cutOffset = arena.length - MAX_PACKET_BYTES;
    this.lastDropsWriter = new LastDropsWriter({ shared, direction, arena, descriptors, cut, cutOffset });
    return { arena, descriptors, counters, slowPath, lastDrops: this.lastDropsWriter };
  }

  /** What the walker dropped last, for each reason. */
  lastDrops(): LastDrop[] {
    this.lastDropsWriter?.flush();
    return readLastDrops(this.lastDropsBlock);
  }

  /** Puts a packet where a receive call would; `sender` as decapsulation has it. Returns its number. */
  add(packet: Buffer, sender = 0): number {
    const at = this.count * DESCRIPTOR_WORDS;
    const offset = this.count * PACKET_BYTES + 128;
    packet.copy(this.arena, offset);
    this.descriptors[at + OFFSET] = offset;
    this.descriptors[at + LENGTH] = packet.length;
    this.descriptors[at + ADDRESS] = sender;
    this.descriptors[at + SEGMENTS] = 1;
    return this.count++;
  }

  /** What a transmit call would say of a packet. */
  setError(index: number, error: number): void {
    const at = index * DESCRIPTOR_WORDS;
    this.descriptors[at + ERROR] = error;
    this.descriptors[at + SENT_PACKETS] = error === 0 ? 1 : 0;
    this.descriptors[at + SENT_BYTES] = error === 0 ? this.descriptors[at + LENGTH] : 0;
    this.descriptors[at + TOO_BIG_PACKETS] = error === constants.errno.EMSGSIZE ? 1 : 0;
    this.descriptors[at + FIRST_TOO_BIG] = 0;
    this.descriptors[at + LAST_TOO_BIG] = 0;
  }

  /** Makes the packet a super-packet of so many segments, as far as the walk can see; 0: one that cannot be cut. */
  setSegments(index: number, segments: number): void {
    this.descriptors[index * DESCRIPTOR_WORDS + SEGMENTS] = segments;
  }

  /**
   * What a transmit call would say of a super-packet that the kernel took `sentPackets` packets of; `tooBig` are the first
   * and the last of those that are too big for the path.
   */
  setPartlySent(
    index: number,
    { sentPackets, sentBytes, tooBig }: { sentPackets: number; sentBytes: number; tooBig?: readonly [number, number] },
  ): void {
    const at = index * DESCRIPTOR_WORDS;
    const [first, last] = tooBig ?? [0, -1];
    this.descriptors[at + SENT_PACKETS] = sentPackets;
    this.descriptors[at + SENT_BYTES] = sentBytes;
    this.descriptors[at + TOO_BIG_PACKETS] = last - first + 1;
    this.descriptors[at + FIRST_TOO_BIG] = first;
    this.descriptors[at + LAST_TOO_BIG] = last;
  }

  /** Puts a packet where the native `cut` writes, as that packet on the wire; returns its bytes. */
  putCut(packet: Buffer): number {
    return packet.copy(this.arena, this.arena.length - MAX_PACKET_BYTES);
  }

  verdict(index: number): number {
    return this.descriptors[index * DESCRIPTOR_WORDS + VERDICT];
  }

  nextHop(index: number): { address: number; port: number } {
    const at = index * DESCRIPTOR_WORDS;
    return { address: this.descriptors[at + ADDRESS] >>> 0, port: this.descriptors[at + PORT] };
  }

  /** The packet as it lies in the arena now. */
  packet(index: number): Buffer {
    const at = index * DESCRIPTOR_WORDS;
    const offset = this.descriptors[at + OFFSET];
    return Buffer.from(this.arena.subarray(offset, offset + this.descriptors[at + LENGTH]));
  }

  counts(): WorkerCounts {
    this.counters.flush();
    return readCounters(this.countersBlock);
  }

  /** What was handed to the main thread. */
  handedOver(): SlowPathRecord[] {
    const records: SlowPathRecord[] = [];
    this.reader.drain((record) => records.push(record));
    return records;
  }
}

/** A packet whose payload counts upwards. */
export function packetOf(
  source: string,
  destination: string,
  header: Partial<Omit<Ipv4Header, 'source' | 'destination'>> = {},
  payloadBytes = 64,
): Buffer {
  const packet = Buffer.alloc(20 + payloadBytes);
  for (let index = 0; index < payloadBytes; index++) packet[20 + index] = index;
  writeIpv4Header(packet, 0, {
    totalBytes: packet.length,
    protocol: PROTOCOL_UDP,
    ...header,
    source: ip(source),
    destination: ip(destination),
  });
  return packet;
}
