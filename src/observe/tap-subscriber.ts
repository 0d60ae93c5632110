import type { UdpEnd } from '../packet/udp-datagram.js';
import { datagramOf } from './tap-datagram.js';
import { encodeLoss, type TapEvent } from './tap-protocol.js';
import type { PacketTest, TapWish } from './tap-request.js';

/** Where a subscriber's frames go. */
export interface TapSink {
  write(frame: Buffer): unknown;
  /** Holds back what is written, until {@link uncork}: one system call for all of it. */
  cork(): void;
  uncork(): void;
  /** Bytes that were written and have not left this process yet. */
  readonly writableLength: number;
}

/** One who does not read has this much waiting, and no more. */
const MAX_WAITING_BYTES = 4 * 1024 * 1024;

/** One who watches: what it wants to see, and what it has missed. */
export class TapSubscriber {
  private lostInRing = 0;
  private lostForReader = 0;
  private lossTold = true;
  /** Packets that the events passed over since the last one shown stand for: of the passed, and of the dropped. */
  private readonly skipped = [0, 0];

  constructor(
    readonly wish: TapWish,
    private readonly sink: TapSink,
  ) {}

  wants(direction: 'encap' | 'decap'): boolean {
    return this.wish.direction === undefined || this.wish.direction === direction;
  }

  /**
   * Shows it an event, if it wants that one.
   * @param frame - the event encoded; asked for only when needed
   * @param ownEnd - this node's end of the tunnel
   */
  offer(event: TapEvent, ownEnd: UdpEnd, frame: () => Buffer): void {
    if (!this.matches(event, ownEnd)) return;
    if (this.sink.writableLength > MAX_WAITING_BYTES) {
      this.lostForReader++;
      this.lossTold = false;
      return;
    }
    this.sink.write(frame());
  }

  /** Frames that follow go out together, with {@link release}. */
  hold(): void {
    this.sink.cork();
  }

  release(): void {
    this.sink.uncork();
  }

  /** Records that the workers had no room for. */
  lost(records: number): void {
    if (records === 0) return;
    this.lostInRing += records;
    this.lossTold = false;
  }

  /** Tells it what it has missed, if that is more than before and it has room to hear it. */
  tellLoss(): void {
    if (this.lossTold || this.sink.writableLength > MAX_WAITING_BYTES) return;
    this.lossTold = true;
    this.sink.write(encodeLoss({ ring: this.lostInRing, reader: this.lostForReader }));
  }

  private matches(event: TapEvent, ownEnd: UdpEnd): boolean {
    const { wish } = this;
    if (!this.wants(event.direction)) return false;
    if (event.segments > 1 && event.segment >= 0 !== wish.wirePackets) return false;
    if (event.reason === 0 && wish.dropsOnly) return false;
    if (!this.sampled(event)) return false;
    if (wish.reasons !== undefined && !wish.reasons.has(event.reason)) return false;
    if (wish.filter !== undefined && !wish.filter.matches(event.packet, event.lengthBytes)) return false;
    return wish.outerFilter === undefined || matchesOuter(wish.outerFilter, event, ownEnd);
  }

  /** Workers record as often as the most curious subscriber asks; the others take their share of that. */
  private sampled(event: TapEvent): boolean {
    const kind = event.reason === 0 ? 0 : 1;
    this.skipped[kind] += event.every;
    if (this.skipped[kind] < this.wish.every) return false;
    this.skipped[kind] = 0;
    return true;
  }
}

function matchesOuter(filter: PacketTest, event: TapEvent, ownEnd: UdpEnd): boolean {
  const datagram = datagramOf(event, ownEnd);
  return datagram !== undefined && filter.matches(datagram, event.lengthBytes + datagram.length - event.packet.length);
}
