/** The packet that is asked about. */
export interface PacketSpec {
  /** Unsigned; without one the packet is this host's own, and the kernel chooses. */
  readonly source?: number;
  readonly destination: number;
  /** IP protocol number. */
  readonly protocol: number;
  /** Destination port, where the protocol has ports. */
  readonly port?: number;
  /** As it is when this host gets the packet: from a pod, from its own sockets, or inside a datagram. */
  readonly ttl: number;
  /** IPv4 header and payload. */
  readonly lengthBytes: number;
  readonly dontFragment: boolean;
  /** The packet arrives on the tunnel's port, in a datagram from this underlay address. */
  readonly sender?: number;
}

/** One decision on the packet's way, and the fact behind it. */
export interface ExplainStep {
  /** `source`, `bridge`, `route`, `ttl`, `mtu`, `firewall`, `table`, `dataplane`, `underlay`, `sender`, `next-hop`. */
  readonly step: string;
  /** `unsure`: it depends on something that cannot be told beforehand, or from here. */
  readonly outcome: 'pass' | 'drop' | 'unsure';
  readonly fact: string;
}

/**
 * Why a packet is dropped before or behind the dataplane, which has reasons of its own (`drop-reasons.ts`); where the
 * kernel drops for one of those, it has that name: `ttl-exceeded`, `packet-too-big`.
 */
export const HOST_DROP_REASONS = ['no-route', 'unreachable', 'forwarding-off', 'rp-filter', 'firewall'] as const;

/** One of {@link HOST_DROP_REASONS}. */
export type HostDropReason = (typeof HOST_DROP_REASONS)[number];

/** What would become of the packet: the shape of `flannelctl explain --json`. */
export interface Explanation {
  readonly source: string | null;
  readonly destination: string;
  /** `local`: the packet never meets the dataplane. */
  readonly direction: 'encap' | 'decap' | 'local';
  readonly verdict: 'forwarded' | 'delivered' | 'dropped';
  /** A drop reason's stable name; `null` unless the packet is dropped. */
  readonly reason: string | null;
  /** The subnet by whose lease it is forwarded. */
  readonly lease: string | null;
  /** `ADDRESS:PORT` of the node that it is forwarded to, or the gateway of a packet that leaves by another device. */
  readonly nextHop: string | null;
  readonly steps: readonly ExplainStep[];
}
