import type { Ipv4Prefix } from '../../packet/address.js';
import type { WantedRules } from './rules.js';

/** A tool that keeps rules in the kernel: iptables or nftables. */
export interface PacketFilter {
  readonly name: 'iptables' | 'nftables';

  /**
   * Makes the rules of `networks` be exactly `wanted`, and touches no others. Reads once; writes, in one transaction,
   * only when something differs.
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

/**
 * Two writers may read the same state before either writes; the second one's transaction then fails as a whole (its
 * chain exists by now, its stale rule is gone) and is right after another look. What this does not catch is a shared
 * rule or a jump that both add to a chain which was there before: it then stands there twice, which changes nothing.
 */
export const APPLY_ATTEMPTS = 3;
