/** Questions about single packets, and what a backend answers: by the code and the table that its workers use. */
import type { DryVerdict } from '../dataplane/dry-run.js';
import type { Lease } from '../subnet/lease.js';

/** An inner packet that need not exist. */
export interface PacketQuestion {
  /** Inner addresses, unsigned. */
  readonly source: number;
  readonly destination: number;
  /** IP protocol number. */
  readonly protocol: number;
  /** As it is when the dataplane gets it. */
  readonly ttl: number;
  /** Set for a packet that arrives on the tunnel's port: who sent the datagram. Else it comes out of the overlay device. */
  readonly sender?: number;
}

/** What the forwarding table has for an address. */
export type TableEntry =
  | { readonly kind: 'leased'; readonly nextHop: { readonly address: number; readonly port: number } }
  | { readonly kind: 'own-subnet' | 'no-lease' | 'outside-network' };

export interface PacketExplanation {
  readonly direction: 'encap' | 'decap';
  readonly sourceEntry: TableEntry;
  readonly destinationEntry: TableEntry;
  /** For an arriving packet: whether the sender is one whom this node believes. */
  readonly senderIsMember?: boolean;
  /** What this node's workers would do. */
  readonly here: DryVerdict;
  /**
   * For a forwarded packet: what its next hop would do if it knows the leases that are known here, checks as strictly as
   * this project's agents do by default, and gets the datagram from this node's public address.
   */
  readonly there?: DryVerdict;
}

/** Answers a question; `leases` are those of all nodes. */
export type ExplainPacket = (question: PacketQuestion, leases: Iterable<Lease>) => PacketExplanation;
