import { prefixCovers, prefixesEqual, type Ipv4Prefix } from '../../packet/address.js';

/**
 * Which rules a network wants, and which of those found on a machine are that network's. Nothing here knows how rules
 * are written or read: `iptables.ts` and `nftables.ts` do.
 *
 * Several networks, and flannel itself, share one chain. What belongs to a network is recognised by what the rule says:
 * each of flannel's rules has a fixed form that names the network's own address range. So a restart knows its rules
 * again without having noted anything down, takes over those of a flannel that it replaces, and leaves alone what an
 * administrator has put in between.
 */

export type RuleAction = 'accept' | 'return' | 'masquerade' | 'masquerade-fully-random';

/** A rule of the few kinds that flannel uses; absent matches match everything. */
export interface FirewallRule {
  readonly source?: AddressMatch;
  readonly destination?: AddressMatch;
  readonly mark?: MarkMatch;
  readonly action: RuleAction;
}

export interface AddressMatch {
  readonly prefix: Ipv4Prefix;
  /** Matches what lies outside. */
  readonly negated: boolean;
}

export interface MarkMatch {
  readonly value: number;
  readonly mask: number;
}

/** A chain of flannel's, and where packets enter it. */
export interface FirewallChain {
  /** iptables: table, chain, and the built-in chain that jumps to it. */
  readonly table: 'nat' | 'filter';
  readonly name: string;
  readonly hook: string;
  /** nftables: a base chain of the table `ip flannel-ipv4`. */
  readonly nftName: string;
  readonly nftType: string;
  readonly comment: string;
}

export type ChainKind = 'masquerade' | 'forward';

export const CHAINS: Readonly<Record<ChainKind, FirewallChain>> = {
  masquerade: {
    table: 'nat',
    name: 'FLANNEL-POSTRTG',
    hook: 'POSTROUTING',
    nftName: 'postrtg',
    // 100 is what nft calls `srcnat`.
    nftType: 'type nat hook postrouting priority 100; policy accept;',
    comment: 'flanneld masq',
  },
  forward: {
    table: 'filter',
    name: 'FLANNEL-FWD',
    hook: 'FORWARD',
    nftName: 'forward',
    nftType: 'type filter hook forward priority 0; policy accept;',
    comment: 'flanneld forward',
  },
};

export const CHAIN_KINDS: readonly ChainKind[] = ['masquerade', 'forward'];

/** The rules that a network wants in each chain, in order. */
export type WantedRules = Readonly<Record<ChainKind, readonly FirewallRule[]>>;

export const NO_RULES: WantedRules = { masquerade: [], forward: [] };

/** Set by kube-proxy on packets that it masquerades itself. */
const KUBE_PROXY_MARK: MarkMatch = { value: 0x4000, mask: 0x4000 };

const MULTICAST: Ipv4Prefix = { address: 0xe0000000, length: 4 };

const inside = (prefix: Ipv4Prefix): AddressMatch => ({ prefix, negated: false });
const outside = (prefix: Ipv4Prefix): AddressMatch => ({ prefix, negated: true });

/**
 * `--ip-masq`: pods reach the outside, and the outside pods, with the node's address; pods see each other's own.
 * `fullyRandom` has the kernel choose source ports at random, which keeps two connections from racing for one port.
 */
export function masqueradeRules(network: Ipv4Prefix, subnet: Ipv4Prefix, fullyRandom: boolean): FirewallRule[] {
  const masquerade: RuleAction = fullyRandom ? 'masquerade-fully-random' : 'masquerade';
  return [
    { mark: KUBE_PROXY_MARK, action: 'return' },
    { source: inside(subnet), destination: inside(network), action: 'return' },
    { source: inside(network), destination: inside(subnet), action: 'return' },
    // The pod should see who really calls when the traffic comes straight to its node.
    { source: outside(network), destination: inside(subnet), action: 'return' },
    { source: inside(network), destination: outside(MULTICAST), action: masquerade },
    // Another node could not send the answer back through the tunnel otherwise.
    { source: outside(network), destination: inside(network), action: masquerade },
  ];
}

/** `--iptables-forward-rules`: Docker sets the policy of FORWARD to DROP, which would cut pods off from other nodes. */
export function forwardRules(network: Ipv4Prefix): FirewallRule[] {
  return [
    { source: inside(network), action: 'accept' },
    { destination: inside(network), action: 'accept' },
  ];
}

/** Whether a rule is one that all networks in a chain need, once: it stays until the last of them leaves. */
export function isShared(rule: FirewallRule): boolean {
  return (
    rule.source === undefined &&
    rule.destination === undefined &&
    rule.mark?.value === KUBE_PROXY_MARK.value &&
    rule.action === 'return'
  );
}

/**
 * The network whose rule this is; `undefined` for a shared rule and for one that is no flannel's. The subnet of a rule
 * does not matter, so rules left from an earlier subnet of the network are found as well.
 */
export function ruleNetwork(kind: ChainKind, rule: FirewallRule): Ipv4Prefix | undefined {
  const { source, destination, action } = rule;
  if (rule.mark !== undefined) return undefined;
  if (kind === 'forward') {
    if (action !== 'accept' || (source === undefined) === (destination === undefined)) return undefined;
    const only = source ?? destination;
    return only?.negated === false ? only.prefix : undefined;
  }
  if (source === undefined || destination === undefined) return undefined;
  if (action === 'return') {
    // One side is the network, the other the subnet in it. (`saddr != subnet daddr network` is flannel's with nftables.)
    if (destination.negated || prefixesEqual(source.prefix, destination.prefix)) return undefined;
    if (prefixCovers(source.prefix, destination.prefix)) return source.prefix;
    return prefixCovers(destination.prefix, source.prefix) ? destination.prefix : undefined;
  }
  if (action === 'accept') return undefined;
  if (!source.negated) {
    return destination.negated && prefixesEqual(destination.prefix, MULTICAST) ? source.prefix : undefined;
  }
  return !destination.negated && prefixesEqual(source.prefix, destination.prefix) ? source.prefix : undefined;
}

/** Whether two rules match the same packets and do the same with them. */
export function rulesEqual(a: FirewallRule, b: FirewallRule): boolean {
  return (
    a.action === b.action &&
    matchesEqual(a.source, b.source) &&
    matchesEqual(a.destination, b.destination) &&
    a.mark?.value === b.mark?.value &&
    a.mark?.mask === b.mark?.mask
  );
}

function matchesEqual(a: AddressMatch | undefined, b: AddressMatch | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.negated === b.negated && prefixesEqual(a.prefix, b.prefix);
}
