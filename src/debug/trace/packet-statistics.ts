import type { TapEvent, TapHello } from '../../observe/tap-protocol.js';
import { reasonOf, verdictOf, type Verdict } from '../verdict.js';

/** Packets of one direction, verdict and reason. */
export interface StatisticsRow {
  readonly direction: 'encap' | 'decap';
  readonly verdict: Verdict;
  readonly reason: string | null;
  /** Records that were shown. */
  shown: number;
  /** Packets on the wire that they stand for: more, of a sample and of super-packets. */
  packets: number;
  /** Inner bytes of those. */
  bytes: number;
}

/** Counts what a trace has shown. */
export class PacketStatistics {
  private readonly byKey = new Map<string, StatisticsRow>();

  add(event: TapEvent, hello: TapHello): void {
    const { direction } = event;
    const verdict = verdictOf(event);
    const reason = reasonOf(event, hello);
    const key = `${direction} ${verdict} ${reason}`;
    const row = this.byKey.get(key) ?? { direction, verdict, reason, shown: 0, packets: 0, bytes: 0 };
    row.shown += 1;
    row.packets += event.every * event.segments;
    row.bytes += event.every * event.lengthBytes;
    this.byKey.set(key, row);
  }

  /** The most frequent first. */
  rows(): readonly StatisticsRow[] {
    return [...this.byKey.values()].sort((a, b) => b.packets - a.packets);
  }
}
