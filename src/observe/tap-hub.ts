/**
 * Between the workers' taps and those who watch: asks the workers for what the subscribers together want, looks into the
 * rings while there is a subscriber, and shows each what it asked for. A subscriber that does not read loses its own
 * records and nobody else's, and nobody who watches keeps the workers waiting.
 */
import type { TapSource } from '../backend/tap-source.js';
import { DROP_REASONS } from '../dataplane/drop-reasons.js';
import type { TapDemand, TapRecord, WorkerTap } from '../dataplane/tap.js';
import { FlannelError } from '../errors.js';
import type { UdpEnd } from '../packet/udp-datagram.js';
import { ipv4Destination, ipv4Source, IPV4_HEADER_BYTES } from '../packet/ipv4.js';
import { encodeEvent, encodeHello, type TapEvent, type TapHello } from './tap-protocol.js';
import type { TapWish } from './tap-request.js';
import { TapSubscriber, type TapSink } from './tap-subscriber.js';

/** What the hub has to know of the agent; asked anew whenever it looks. */
export interface TapHubSource {
  tapSource(): TapSource | undefined;
  tapNode(): { readonly node: string; readonly externalInterface: string };
}

/** How often the rings, of a few megabytes, are looked into when workers record most packets, */
const BUSY_LOOK_MS = 10;
/** and when they record few: often enough for a person. Each look takes the processor from a busy worker. */
const QUIET_LOOK_MS = 50;
/** One packet in so many is few. */
const FEW = 100;
/** Records of one ring that are handled before the main thread turns to its other duties. */
const RECORDS_A_LOOK = 4096;
const MAX_SUBSCRIBERS = 16;
/** The wall clock was set when it is this far from where it should be. */
const CLOCK_STEP_MS = 5;

/** One for the agent; it looks into the rings only while somebody watches. */
export class TapHub {
  private readonly subscribers = new Set<TapSubscriber>();
  private readonly clock = new WallClock();
  private source: TapSource | undefined;
  private readonly lostBefore = new WeakMap<WorkerTap, number>();
  private timer: NodeJS.Timeout | undefined;
  private lookMs = BUSY_LOOK_MS;

  constructor(private readonly agent: TapHubSource) {}

  /**
   * Shows `sink` from now on what it wishes to see.
   * @returns ends that
   * @throws FlannelError `CONTROL` when packets do not flow yet, or too many watch already
   */
  subscribe(wish: TapWish, sink: TapSink): () => void {
    const source = this.agent.tapSource();
    if (source === undefined) throw new FlannelError('CONTROL', 'packets do not flow on this node yet: see its status');
    if (this.subscribers.size >= MAX_SUBSCRIBERS) {
      throw new FlannelError('CONTROL', `${MAX_SUBSCRIBERS} traces and captures run already: end one of them`);
    }
    const subscriber = new TapSubscriber(wish, sink);
    sink.write(encodeHello(this.hello(source)));
    this.subscribers.add(subscriber);
    this.changeDemand(this.subscribers.size === 1);
    this.timer ??= this.lookIn(BUSY_LOOK_MS);
    return () => {
      if (this.subscribers.delete(subscriber)) this.changeDemand(false);
    };
  }

  private hello({ device, tunnelEnd }: TapSource): TapHello {
    const passed = { name: '', description: '' };
    const reasons = [passed, ...DROP_REASONS.map(({ name, description }) => ({ name, description }))];
    return { ...this.agent.tapNode(), device, tunnelEnd, reasons };
  }

  private lookIn(milliseconds: number): NodeJS.Timeout {
    return setTimeout(() => this.look(), milliseconds).unref();
  }

  private look(): void {
    if (this.subscribers.size === 0) {
      this.timer = undefined;
      return;
    }
    if (this.agent.tapSource() !== this.source) this.changeDemand(true);
    const left = this.source !== undefined && this.read(this.source);
    this.timer = this.lookIn(left ? 0 : this.lookMs);
  }

  /** @returns whether there is more */
  private read(source: TapSource): boolean {
    this.clock.check();
    const events: TapEvent[] = [];
    let left = false;
    for (const tap of source.taps) {
      const more = tap.reader.drain((record) => events.push(this.eventOf(source, tap, record)), RECORDS_A_LOOK);
      left ||= more;
    }
    // Each ring is in order; together they are brought into it.
    events.sort((a, b) => (a.timeNs < b.timeNs ? -1 : a.timeNs > b.timeNs ? 1 : 0));
    for (const subscriber of this.subscribers) subscriber.hold();
    for (const event of events) this.show(event, source.tunnelEnd);
    this.countLosses(source);
    for (const subscriber of this.subscribers) subscriber.release();
    return left;
  }

  private show(event: TapEvent, tunnelEnd: UdpEnd): void {
    let encoded: Buffer | undefined;
    const frame = (): Buffer => (encoded ??= encodeEvent(event));
    for (const subscriber of this.subscribers) subscriber.offer(event, tunnelEnd, frame);
  }

  private countLosses({ taps }: TapSource): void {
    for (const tap of taps) {
      const { lost } = tap.reader;
      const more = (lost - (this.lostBefore.get(tap) ?? lost)) >>> 0;
      this.lostBefore.set(tap, lost);
      for (const subscriber of this.subscribers) if (subscriber.wants(tap.direction)) subscriber.lost(more);
    }
    for (const subscriber of this.subscribers) subscriber.tellLoss();
  }

  /**
   * Asks the workers for what all subscribers together want.
   * @param anew - nobody has watched these workers until now: what is in their rings is from earlier
   */
  private changeDemand(anew: boolean): void {
    this.source = this.agent.tapSource();
    const busy = [...this.subscribers].some(({ wish }) => !wish.dropsOnly && wish.every < FEW);
    this.lookMs = busy ? BUSY_LOOK_MS : QUIET_LOOK_MS;
    for (const tap of this.source?.taps ?? []) {
      if (anew) {
        tap.reader.discard();
        this.lostBefore.set(tap, tap.reader.lost);
      }
      const wishes = [...this.subscribers].filter((one) => one.wants(tap.direction)).map((one) => one.wish);
      tap.reader.demand(unionOf(wishes));
    }
  }

  private eventOf(source: TapSource, { direction, queue }: WorkerTap, record: TapRecord): TapEvent {
    const { packet } = record;
    const address = direction === 'encap' ? ipv4Destination : ipv4Source;
    const known = packet.length >= IPV4_HEADER_BYTES && packet[0] >>> 4 === 4;
    return {
      timeNs: this.clock.wallNs(record.monotonicNs),
      direction,
      queue,
      reason: record.reason,
      error: record.error,
      underlayAddress: record.underlayAddress,
      underlayPort: record.underlayPort,
      lease: known ? source.leaseOf(address(packet, 0)) : undefined,
      packet,
      lengthBytes: record.lengthBytes,
      segments: record.segments,
      segment: record.segment,
      batchPackets: record.batchPackets,
      merged: record.merged,
      every: record.every,
    };
  }
}

/** The least that satisfies everybody; `undefined` when nobody wants anything. */
function unionOf(wishes: readonly TapWish[]): TapDemand | undefined {
  if (wishes.length === 0) return undefined;
  const passed = wishes.filter(({ dropsOnly }) => !dropsOnly);
  const often = (some: readonly TapWish[]): number =>
    some.length === 0 ? 0 : some.reduce((least, { every }) => Math.min(least, every), Infinity);
  return {
    everyPassed: often(passed),
    everyDropped: often(wishes),
    keptBytes: Math.max(...wishes.map(({ packetBytes }) => packetBytes)),
    wirePackets: wishes.some(({ wirePackets }) => wirePackets),
  };
}

/** Wall-clock times for readings of the monotonic clock, which alone is the same in every thread and never jumps. */
class WallClock {
  /** What the wall clock is ahead of the monotonic one. */
  private offsetNs = BigInt(Math.round(performance.timeOrigin * 1000)) * 1000n - monotonicAtOriginNs();

  wallNs(monotonicNs: bigint): bigint {
    return monotonicNs + this.offsetNs;
  }

  /** Follows the wall clock when it was set. */
  check(): void {
    const nowNs = BigInt(Date.now()) * 1_000_000n;
    const expectedNs = this.wallNs(process.hrtime.bigint());
    const apartMs = Number(nowNs - expectedNs) / 1e6;
    if (Math.abs(apartMs) > CLOCK_STEP_MS) this.offsetNs += nowNs - expectedNs;
  }
}

function monotonicAtOriginNs(): bigint {
  return process.hrtime.bigint() - BigInt(Math.round(performance.now() * 1e6));
}
