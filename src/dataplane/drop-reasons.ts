/**
 * Why a packet went no further. One list feeds the workers' counters, the labels of
 * `flannel_dropped_packets_total{direction,reason}`, `flannelctl`, the logs and the documentation: the names are stable,
 * the numbers are only ever used inside one running daemon.
 */

/** The numbers the hot path stores in a verdict and counts by; 0 is left free for "not dropped". */
export const DropReason = {
  NotIpv4: 1,
  Truncated: 2,
  TtlExceeded: 3,
  NoLease: 4,
  OwnSubnet: 5,
  OutsideNetwork: 6,
  PacketTooBig: 7,
  SendFailed: 8,
  UnknownSender: 9,
  SpoofedSource: 10,
  ForeignDestination: 11,
  WriteFailed: 12,
} as const;

/** One of the numbers in {@link DropReason}. */
export type DropReason = (typeof DropReason)[keyof typeof DropReason];

/** What people and metrics are told about a reason. */
export interface DropReasonInfo {
  readonly reason: DropReason;
  /** The metrics label: kebab-case, never renamed. */
  readonly name: string;
  /** One line: what happened, and what the sender was told, if anything. */
  readonly description: string;
  /** The directions in which it can occur: `encap` is from the pods to the underlay, `decap` the way back. */
  readonly directions: readonly ('encap' | 'decap')[];
}

const BOTH = ['encap', 'decap'] as const;
const ENCAP = ['encap'] as const;
const DECAP = ['decap'] as const;

/** Every reason, in the order of their numbers. */
export const DROP_REASONS: readonly DropReasonInfo[] = [
  {
    reason: DropReason.NotIpv4,
    name: 'not-ipv4',
    description: 'the packet is not IPv4, and the udp backend carries nothing else',
    directions: BOTH,
  },
  {
    reason: DropReason.Truncated,
    name: 'truncated',
    description: 'the packet is shorter than its own header says, or its header is malformed',
    directions: BOTH,
  },
  {
    reason: DropReason.TtlExceeded,
    name: 'ttl-exceeded',
    description: 'the TTL ran out here; the source is told with ICMP time-exceeded',
    directions: BOTH,
  },
  {
    reason: DropReason.NoLease,
    name: 'no-lease',
    description: 'no node leases the subnet of the destination; the source is told with ICMP net-unreachable',
    directions: ENCAP,
  },
  {
    reason: DropReason.OwnSubnet,
    name: 'own-subnet',
    description: "the destination is in this node's own subnet but was routed into the overlay: is the pod bridge up?",
    directions: ENCAP,
  },
  {
    reason: DropReason.OutsideNetwork,
    name: 'outside-network',
    description: 'the destination is outside the Network, yet some route led it into the overlay device',
    directions: ENCAP,
  },
  {
    reason: DropReason.PacketTooBig,
    name: 'packet-too-big',
    description:
      'larger than the underlay carries, and fragmenting is forbidden; the source is told with ICMP fragmentation-needed',
    directions: ENCAP,
  },
  {
    reason: DropReason.SendFailed,
    name: 'send-failed',
    description: 'the kernel refused the datagram (no route, no buffer space, a firewall rule, interface down)',
    directions: ENCAP,
  },
  {
    reason: DropReason.UnknownSender,
    name: 'unknown-sender',
    description: "the datagram's sender holds no lease and is in no --trusted-source",
    directions: DECAP,
  },
  {
    reason: DropReason.SpoofedSource,
    name: 'spoofed-source',
    description: 'the inner source is not one that the sender may use',
    directions: DECAP,
  },
  {
    reason: DropReason.ForeignDestination,
    name: 'foreign-destination',
    description: "the inner destination is not in this node's subnet",
    directions: DECAP,
  },
  {
    reason: DropReason.WriteFailed,
    name: 'write-failed',
    description: 'the overlay device refused the packet (device down, no buffer space)',
    directions: DECAP,
  },
];

/** Length of an array that is indexed by reason. */
export const DROP_REASON_SLOTS = DROP_REASONS.length + 1;

/** The stable name of a reason. */
export function dropReasonName(reason: DropReason): string {
  return DROP_REASONS[reason - 1].name;
}

/** Counters indexed by reason as an object keyed by name; reasons that never occurred are left out. */
export function namedDropCounts(countsByReason: ArrayLike<number>): Record<string, number> {
  const named: Record<string, number> = {};
  for (const { reason, name } of DROP_REASONS) {
    if (countsByReason[reason] > 0) named[name] = countsByReason[reason];
  }
  return named;
}
