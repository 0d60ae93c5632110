import type { BackendStatus } from '../backend/status.js';

/**
 * What `flanneld` answers on its control socket: HTTP with JSON over a unix socket. Paths begin with the protocol's
 * version (`GET /v1/status`, `GET /v1/leases`, `GET /v1/version`); a field is only ever added within a version.
 */
export const CONTROL_PROTOCOL_VERSION = 1;

/** `GET /v1/version` */
export interface VersionAnswer {
  readonly protocol: number;
  readonly version: string;
  readonly pid: number;
}

/** `GET /v1/status` */
export interface StatusAnswer {
  readonly version: string;
  readonly pid: number;
  readonly startedAt: string;
  /**
   * `ready` while packets flow and the subnet is this node's, as `/readyz` has it; the others name what is waited for: at
   * the start, or when the lease is lost or the backend has failed.
   */
  readonly state: 'configuration' | 'interface' | 'lease' | 'backend' | 'ready' | 'stopping';
  /** Why the agent is not ready, or what troubles it. */
  readonly reason?: string;
  /** What somebody should see to, though the agent may be ready. */
  readonly concerns?: readonly ConcernAnswer[];
  readonly network?: { readonly cidr: string; readonly subnetLength: number; readonly backend: string };
  readonly lease?: LeaseAnswer;
  readonly interface?: { readonly name: string; readonly address: string; readonly mtu: number };
  readonly publicIP?: string;
  readonly subnetFile: string;
  readonly backend?: BackendStatus;
  readonly store: StoreHealth;
  readonly probes?: ProbeStatistics;
}

/** What this agent has done in the probes of other nodes, since its start. */
export interface ProbeStatistics {
  /** Calls for packets that might have passed here. */
  readonly followed: number;
  /** Meshes that it measured its row for. */
  readonly meshes: number;
  /** Calls and keys that were none, or came too often. */
  readonly ignored: number;
}

/** What somebody should see to. */
export type ConcernId =
  /** This node's subnet went to another node: what still has its addresses is cut off. */
  | 'lost-subnet'
  /** Another machine has the same public IP. */
  | 'public-ip'
  /** The network configuration in the store is not the one that this agent runs with. */
  | 'configuration'
  /** A packet worker has failed lately, and was started again. */
  | 'packet-workers';

export interface ConcernAnswer {
  readonly id: ConcernId;
  /** ISO 8601. */
  readonly since: string;
  readonly message: string;
  /** What to do about it. */
  readonly remedy: string;
}

export interface StoreHealth {
  readonly endpoints: readonly string[];
  readonly prefix: string;
  readonly healthy: boolean;
  readonly lastError?: string;
  readonly lastContactAt?: string;
  readonly watchRestarts: number;
  readonly skippedEntries: number;
}

/** `GET /v1/leases` answers an array of these: the table as the daemon holds it. */
export interface LeaseAnswer {
  readonly subnet: string;
  readonly publicIP: string;
  readonly reserved: boolean;
  /** ISO 8601; `null` for a reservation and where the expiry is not known. */
  readonly expires: string | null;
  readonly backendType: string;
  /** Whether it is this node's own. */
  readonly own: boolean;
}

/**
 * `GET /v1/explain?source=ADDRESS&destination=ADDRESS[&protocol=NUMBER][&ttl=HOPS][&sender=ADDRESS]`: what the dataplane
 * would do with a packet. With a sender the packet arrives in a datagram of that underlay address; without one it comes
 * out of the overlay device. The protocol is ICMP and the TTL 64 unless they are given.
 */
export interface ExplainAnswer {
  readonly direction: 'encap' | 'decap';
  readonly network: string;
  /** This node's own. */
  readonly subnet: string;
  readonly sourceCheck: 'strict' | 'outer' | 'off';
  readonly source: AddressAnswer;
  readonly destination: AddressAnswer;
  /** For an arriving packet: whether its sender holds a lease or is trusted. */
  readonly senderIsMember?: boolean;
  /** What the workers of this node would do. */
  readonly here: VerdictAnswer;
  /** What the next hop would do, if it knows the same leases and checks strictly. */
  readonly there?: VerdictAnswer;
}

/** What the forwarding table says of an address. */
export interface AddressAnswer {
  readonly address: string;
  readonly entry: 'leased' | 'own-subnet' | 'no-lease' | 'outside-network';
  /** Where packets to it go, `ADDRESS:PORT`; only where it is leased. */
  readonly nextHop?: string;
  /** The lease that it lies in. */
  readonly lease?: LeaseAnswer;
}

/** A packet's end, by the stable names. */
export interface VerdictAnswer {
  readonly verdict: 'forwarded' | 'delivered' | 'dropped';
  /** Why it is dropped: a name of `DropReason`. */
  readonly reason?: string;
  /** Whom it is forwarded to, `ADDRESS:PORT`. */
  readonly nextHop?: string;
}

/** Any answer with a status of 400 or more. */
export interface ErrorAnswer {
  readonly error: string;
}
