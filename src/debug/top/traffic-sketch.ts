/** The busiest pairs of subnets and the busiest flows, of the packets that a tap shows. */
import type { TapEvent } from '../../observe/tap-protocol.js';
import { formatIpv4, formatPrefix, prefixContains, type Ipv4Prefix } from '../../packet/address.js';
import { ipv4Destination, ipv4Source } from '../../packet/ipv4.js';
import { packetFacts } from '../packet-facts.js';
import { SpaceSaving, type SketchEntry } from './space-saving.js';

/** What is busiest: by inner bytes, or by packets as they are on the wire. */
export type TopBy = 'bytes' | 'packets';

/** Places in each of the two sketches. */
export const TOP_PLACES = 1024;

/** What was seen of something, scaled up from the sample; no more than it was, but for the luck of the draw. */
interface Traffic {
  bytes: number;
  packets: number;
  /** Of the packets, those that were dropped. */
  dropped: number;
}

/** Packets from one subnet to another. */
export interface SubnetPair {
  readonly direction: 'encap' | 'decap';
  /** A lease, or a single address (`192.0.2.7/32`) that is in none. */
  readonly source: string;
  readonly destination: string;
}

/** Packets of one 5-tuple. */
export interface Flow {
  readonly direction: 'encap' | 'decap';
  readonly protocol: string;
  readonly source: string;
  readonly sourcePort: number | null;
  readonly destination: string;
  readonly destinationPort: number | null;
}

/** One line of `flannelctl top`. */
export type Busy<Kind> = Kind &
  Readonly<Traffic> & {
    /** Of all traffic, 0 to 1, in what it is ordered by. */
    readonly share: number;
    /** So much more it may be, in what it is ordered by: for want of places, at most 1/{@link TOP_PLACES} of all. */
    readonly missedAtMost: number;
  };

type Counted<Kind> = Kind & Traffic;

/** Adds up the events of a sampled tap: bytes are of inner packets, packets as they are on the wire. */
export class TrafficSketch {
  private readonly pairs = new SpaceSaving<Counted<SubnetPair>>(TOP_PLACES);
  private readonly flows = new SpaceSaving<Counted<Flow>>(TOP_PLACES);
  private readonly sum: Traffic = { bytes: 0, packets: 0, dropped: 0 };
  private seen = 0;

  /** @param ownSubnet - this node's lease */
  constructor(
    private readonly by: TopBy,
    private readonly ownSubnet: Ipv4Prefix | undefined,
  ) {}

  /** Everything, scaled up. */
  get total(): Readonly<Traffic> {
    return this.sum;
  }

  /** Records that all of this rests on. */
  get records(): number {
    return this.seen;
  }

  /** What is no IPv4 packet has no flow, and counts nowhere. */
  add(event: TapEvent): void {
    const { direction, packet, lengthBytes } = event;
    const { protocol, source, destination, sourcePort, destinationPort } = packetFacts(packet, lengthBytes);
    if (protocol === null || source === null || destination === null) return;
    this.seen++;
    const packets = event.every * event.segments;
    const traffic = { bytes: event.every * lengthBytes, packets, dropped: event.reason === 0 ? 0 : packets };
    accumulate(this.sum, traffic);
    const weight = traffic[this.by];
    const pair = this.pairOf(event);
    const pairKey = `${direction} ${pair.source} ${pair.destination}`;
    accumulate(
      this.pairs.add(pairKey, weight, () => ({ ...pair, ...NOTHING })),
      traffic,
    );
    const flowKey = `${direction} ${protocol} ${source} ${sourcePort} ${destination} ${destinationPort}`;
    const flow = { direction, protocol, source, sourcePort, destination, destinationPort };
    accumulate(
      this.flows.add(flowKey, weight, () => ({ ...flow, ...NOTHING })),
      traffic,
    );
  }

  busiestPairs(limit: number): Busy<SubnetPair>[] {
    return this.busiest(this.pairs, limit);
  }

  busiestFlows(limit: number): Busy<Flow>[] {
    return this.busiest(this.flows, limit);
  }

  private busiest<Kind>(sketch: SpaceSaving<Counted<Kind>>, limit: number): Busy<Kind>[] {
    return sketch.heaviest(limit).map(({ item, counted, missedAtMost }: SketchEntry<Counted<Kind>>) => ({
      ...item,
      share: sketch.total === 0 ? 0 : counted / sketch.total,
      missedAtMost,
    }));
  }

  private pairOf({ direction, packet, lease }: TapEvent): SubnetPair {
    const source = ipv4Source(packet, 0);
    const destination = ipv4Destination(packet, 0);
    return direction === 'encap'
      ? { direction, source: subnetOf(source, this.ownSubnet), destination: subnetOf(destination, lease) }
      : { direction, source: subnetOf(source, lease), destination: subnetOf(destination, this.ownSubnet) };
  }
}

const NOTHING: Readonly<Traffic> = { bytes: 0, packets: 0, dropped: 0 };

function accumulate(into: Traffic, { bytes, packets, dropped }: Traffic): void {
  into.bytes += bytes;
  into.packets += packets;
  into.dropped += dropped;
}

function subnetOf(address: number, lease: Ipv4Prefix | undefined): string {
  return lease !== undefined && prefixContains(lease, address) ? formatPrefix(lease) : `${formatIpv4(address)}/32`;
}
