import { prefixesEqual, type Ipv4Prefix } from '../../packet/address.js';
import { isShared, ruleNetwork, rulesEqual, type ChainKind, type FirewallRule } from './rules.js';

/** A rule as it was found in a chain. */
export interface PresentRule<Handle> {
  /** Absent when it is not of a form that flannel writes: somebody else's, never touched. */
  readonly rule?: FirewallRule;
  /** What the tool needs to delete exactly this rule. */
  readonly handle: Handle;
}

/** What to do to a chain, in this order; all empty when the chain is as it should be. */
export interface ChainPlan<Handle> {
  readonly remove: readonly Handle[];
  /** Go to the very front: shared rules hold for the networks that are there already, too. */
  readonly prepend: readonly FirewallRule[];
  readonly append: readonly FirewallRule[];
  /** After that nobody's rules are left in the chain: it can go. */
  readonly drop: boolean;
}

/**
 * Compares a chain with what a network wants in it. When a rule is missing, stale, doubled or out of order, all of the
 * network's rules are taken out and put back in order at the end: they only make sense together. Others' rules may
 * stand in between. A shared rule that stands there more than once is replaced by one.
 * @param present the chain's rules in order; `undefined` when there is no such chain
 * @param networks whose rules count as ours: the network, and those it had before
 */
export function planChain<Handle>(
  kind: ChainKind,
  present: readonly PresentRule<Handle>[] | undefined,
  wanted: readonly FirewallRule[],
  networks: readonly Ipv4Prefix[],
): ChainPlan<Handle> {
  const wantedShared = wanted.filter(isShared);
  const wantedOwn = wanted.filter((rule) => !isShared(rule));

  const found = present ?? [];
  const own = found.filter(({ rule }) => {
    const network = rule && ruleNetwork(kind, rule);
    return network !== undefined && networks.some((candidate) => prefixesEqual(candidate, network));
  });
  const firstOwn = own.length === 0 ? found.length : found.indexOf(own[0]);
  const copiesOf = (shared: FirewallRule) => found.filter(({ rule }) => rule && rulesEqual(rule, shared));

  const ownInOrder =
    own.length === wantedOwn.length &&
    own.every(({ rule }, index) => rule !== undefined && rulesEqual(rule, wantedOwn[index]));
  const once = wantedShared.filter((shared) => copiesOf(shared).length === 1);
  const misplaced = wantedShared.filter((shared) => !once.includes(shared));
  // One that is missing or doubled is put in front anyway; only one that comes too late makes ours move behind it.
  const sharedTooLate = once.some((shared) => found.indexOf(copiesOf(shared)[0]) > firstOwn);
  const right = ownInOrder && !sharedTooLate;
  const remove = [...misplaced.flatMap(copiesOf), ...(right ? [] : own)];

  const othersLeft = found.some((entry) => !own.includes(entry) && !(entry.rule && isShared(entry.rule)));
  return {
    remove: remove.map(({ handle }) => handle),
    prepend: misplaced,
    append: right ? [] : wantedOwn,
    drop: present !== undefined && wanted.length === 0 && !othersLeft,
  };
}

/** Whether a plan changes nothing. */
export function isIdle(plan: ChainPlan<unknown>): boolean {
  return plan.remove.length === 0 && plan.prepend.length === 0 && plan.append.length === 0 && !plan.drop;
}
