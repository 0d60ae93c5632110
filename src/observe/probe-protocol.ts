/**
 * What is said over `POST /v1/probe` of the control socket: a {@link ProbeRequest} in JSON, answered with one line of JSON,
 * a {@link ProbeAnswer} of the kind that was asked for, or an `ErrorAnswer`. The status is there at once, the line when
 * the probe is over; hanging up ends it.
 */
export type ProbeRequest = PacketProbeRequest | MeshProbeRequest;

/** Packets of a pod's to one address. */
export interface PacketProbeRequest {
  readonly kind: 'packet';
  readonly destination: string;
  /** In this node's lease, or one of this host's own; left out: an address of this host in the lease. */
  readonly source?: string;
  readonly protocol: 'icmp' | 'udp' | 'tcp';
  /** Destination port; of UDP and TCP only. */
  readonly port?: number;
  /** Of the whole IPv4 packet. */
  readonly sizeBytes: number;
  readonly dontFragment: boolean;
  readonly count: number;
  /** How long the last packet may take to be answered. */
  readonly timeoutMs: number;
}

/** Every node with every node. */
export interface MeshProbeRequest {
  readonly kind: 'mesh';
  /** How long the nodes may take. */
  readonly timeoutMs: number;
}

export type ProbeAnswer = PacketProbeAnswer | MeshProbeAnswer;

/** Where a packet was seen, in the order of its path. */
export const HOP_POINTS = [
  'sent',
  'encapsulated',
  'unreported',
  'received',
  'delivered',
  'kernel',
  'reply-encapsulated',
  'reply-received',
  'reply-delivered',
] as const;

/** One of {@link HOP_POINTS}. */
export type HopPoint = (typeof HOP_POINTS)[number];

/** A sighting of one packet, or of its answer. */
export interface Hop {
  /** The public address of the node. */
  readonly node: string;
  readonly point: HopPoint;
  readonly verdict: 'sent' | 'forwarded' | 'received' | 'delivered' | 'dropped' | 'unknown';
  /** Why it was dropped, or is not known; `null` for neither. */
  readonly reason: string | null;
  /** ISO 8601, by the clock of that node; `null` where nobody saw it. */
  readonly time: string | null;
  /** More about it, to people. */
  readonly detail: string;
}

/** The shape of `flannelctl probe --json`. */
export interface PacketProbeAnswer {
  readonly reached: boolean;
  /** Of the first packet that was not answered, or of the first. */
  readonly hops: readonly Hop[];
  /** What most likely became of it; `null` when every packet was answered. */
  readonly likelyCause: string | null;
  readonly source: string;
  /** Whose address that is. */
  readonly sourceIs: string;
  readonly destination: string;
  readonly protocol: 'icmp' | 'udp' | 'tcp';
  readonly port: number | null;
  readonly sizeBytes: number;
  readonly sent: number;
  readonly answered: number;
  /** By what: `echo-reply`, `port-unreachable`, `syn-ack`, …; `null` for nothing. */
  readonly answer: string | null;
  /** From sending to the answer, by this node's clock: of the packets that were answered, the median. */
  readonly roundTripMs: number | null;
  /** What else one should know: who cannot report, that etcd is away, that records were lost. */
  readonly notes: readonly string[];
}

/** The shape of `flannelctl probe --mesh --json`. */
export interface MeshProbeAnswer {
  readonly reached: boolean;
  readonly nodes: readonly MeshNode[];
  readonly notes: readonly string[];
}

/** A row of the mesh. */
export interface MeshNode {
  readonly node: string;
  readonly subnet: string;
  /** Whether its agent has measured; if not, `peers` is empty. */
  readonly reports: boolean;
  /** What it measured to the other nodes. */
  readonly peers: readonly MeshPeer[];
}

/** One node as another one measured it, through the tunnel. */
export interface MeshPeer {
  readonly node: string;
  readonly subnet: string;
  /** Echo requests to its overlay address, and those that were answered. */
  readonly sent: number;
  readonly answered: number;
  /** The median round trip; `null` when nothing was answered. */
  readonly latencyMs: number | null;
  /** The largest datagram that got through, outer headers included; `null` when nothing did. */
  readonly pathMtuBytes: number | null;
}
