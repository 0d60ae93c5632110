import type { Ipv4Prefix } from '../../packet/address.js';
import type { WantedRules } from './rules.js';

/** A tool that keeps rules in the kernel: iptables or nftables. */
export interface PacketFilter {
  readonly name: 'iptables' | 'nftables';

  /**
   * Makes the rules of `networks` be exactly `wanted`, and touches no others. Reads once when nothing differs; else it
   * writes in one transaction, and looks again.
   * @throws FlannelError `HOST`
   */
  apply(wanted: WantedRules, networks: readonly Ipv4Prefix[]): Promise<FilterChange>;
}

/** What `apply` did; all zero when everything was in place. */
export interface FilterChange {
  readonly added: number;
  readonly removed: number;
  /** Chains (and, with nftables, the table) that nobody needed any more. */
  readonly dropped: readonly string[];
}
