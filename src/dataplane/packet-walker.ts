/** What both directions do with a batch: a verdict for each packet before the kernel is asked, and the account after it. */
import type { WorkerCounters } from './counters.js';
import { DESCRIPTOR_WORDS, VERDICT } from './descriptors.js';
import type { DropReason } from './drop-reasons.js';
import type { ForwardingTableReader } from './forwarding-table-reader.js';
import type { LastDropsWriter } from './last-drops.js';
import type { SlowPathWriter } from './slow-path.js';

export interface PacketWalkerOptions {
  readonly table: ForwardingTableReader;
  readonly arena: Buffer;
  readonly descriptors: Int32Array;
  readonly counters: WorkerCounters;
  readonly slowPath: SlowPathWriter;
  readonly lastDrops: Pick<LastDropsWriter, 'note'>;
}

/** A walk of either direction; `decide` gives one packet its verdict: to be forwarded, or why it is dropped. */
export abstract class PacketWalker {
  protected readonly table: ForwardingTableReader;
  protected readonly arena: Buffer;
  protected readonly descriptors: Int32Array;
  protected readonly counters: WorkerCounters;
  protected readonly slowPath: SlowPathWriter;
  private readonly lastDrops: Pick<LastDropsWriter, 'note'>;

  constructor({ table, arena, descriptors, counters, slowPath, lastDrops }: PacketWalkerOptions) {
    this.table = table;
    this.arena = arena;
    this.descriptors = descriptors;
    this.counters = counters;
    this.slowPath = slowPath;
    this.lastDrops = lastDrops;
  }

  /** Between receive and transmit: a verdict for each of the first `count` packets. */
  walk(count: number): void {
    const { descriptors } = this;
    for (let at = 0; at < count * DESCRIPTOR_WORDS; at += DESCRIPTOR_WORDS) descriptors[at + VERDICT] = this.decide(at);
  }

  /** After transmit: what became of each of the first `count` packets. */
  settle(count: number): void {
    for (let at = 0; at < count * DESCRIPTOR_WORDS; at += DESCRIPTOR_WORDS) this.settleOne(at);
    this.counters.batch();
  }

  /** FORWARD, or a `DropReason`, for the packet of the descriptor at `at`. */
  protected abstract decide(at: number): number;

  /** Counts the packet of the descriptor at `at`, and hands over what somebody has to be told about. */
  protected abstract settleOne(at: number): void;

  /**
   * Counts packets of the descriptor at `at` as dropped.
   * @param segment - which of those that a super-packet is on the wire may be shown as the last one
   */
  protected countDropped(at: number, reason: DropReason, packets: number, segment = 0): void {
    this.counters.dropped(reason, packets);
    this.lastDrops.note(reason, at, segment);
  }

  /** Hands `kept` bytes of a packet in the arena to the main thread. That it is too busy for them is counted. */
  protected handOver(reason: DropReason, underlayAddress: number, offset: number, kept: number): void {
    if (!this.slowPath.push(reason, underlayAddress, this.arena, offset, kept)) this.counters.slowPathOverflow();
  }
}
