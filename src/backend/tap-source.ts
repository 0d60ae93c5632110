import type { WorkerTap } from '../dataplane/tap.js';
import type { Ipv4Prefix } from '../packet/address.js';
import type { UdpEnd } from '../packet/udp-datagram.js';

/** What a running backend lets people watch; the same object for as long as its workers live. */
export interface TapSource {
  readonly taps: readonly WorkerTap[];
  readonly device: string;
  /** Where its datagrams come from, and arrive. */
  readonly tunnelEnd: UdpEnd;
  /** The lease that an inner address belongs to, this node's own among them. */
  leaseOf(address: number): Ipv4Prefix | undefined;
}
