/**
 * What this host's packet filter would do with a packet, worked out from its rules as iptables and nft list them.
 *
 * A rule may match on things that nobody knows before the packet is there (a rate, a set, a connection). So a condition
 * answers yes, no, or "not known", and a verdict says whether it is certain. Connections count as new, and marks as unset
 * until a rule sets one.
 */

/** A packet at one of the kernel's hooks. Addresses are unsigned; a device that does not apply is left out. */
export interface FilterPacket {
  readonly source: number;
  readonly destination: number;
  /** IP protocol number. */
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly inDevice?: string;
  readonly outDevice?: string;
}

/** The hooks of netfilter for IPv4. */
export type Hook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';

/** Whether a condition holds; `undefined` when that cannot be told beforehand. */
export type Truth = boolean | undefined;

export interface FilterState {
  /** The packet's mark: 0, or `undefined` once a rule has set it. */
  mark: number | undefined;
}

export type FilterCondition = (packet: FilterPacket, state: FilterState) => Truth;

/** What a rule does when it matches. `other` goes on with the next rule. */
export type FilterAction =
  | { readonly kind: 'accept' | 'drop' | 'reject' | 'return' | 'masquerade' | 'snat' | 'dnat' | 'mark' | 'other' }
  | { readonly kind: 'jump' | 'goto'; readonly chain: string };

export interface FilterRule {
  /** As the tool shows it, for people. */
  readonly text: string;
  readonly conditions: readonly FilterCondition[];
  readonly action: FilterAction;
}

export interface FilterChain {
  /** Tool, table and chain: `iptables filter FORWARD`. */
  readonly name: string;
  /** Chains that a jump can lead to are in the same table. */
  readonly table: string;
  /** Its name within the table, which jumps use. */
  readonly localName: string;
  /** Set on a chain that packets enter by themselves. */
  readonly base?: { readonly hook: Hook; readonly priority: number; readonly policy: 'accept' | 'drop' };
  readonly rules: readonly FilterRule[];
}

export type FilterRuleset = readonly FilterChain[];

/** A rule that decided something about the packet. */
export interface FilterTouch {
  readonly chain: string;
  readonly rule: string;
  readonly does: 'accept' | 'drop' | 'reject' | 'masquerade' | 'snat' | 'dnat';
  /** False when a condition is not known beforehand, here or in a rule before. */
  readonly certain: boolean;
}

/** What becomes of a packet at a hook. */
export interface FilterOutcome {
  readonly verdict: 'pass' | 'drop' | 'maybe-drop';
  /** In the order in which the packet meets them. */
  readonly touches: readonly FilterTouch[];
}

/** Takes a packet through every chain at a hook, in the order of their priorities. */
export function filterAt(ruleset: FilterRuleset, hook: Hook, packet: FilterPacket): FilterOutcome {
  const bases = ruleset
    .filter((chain) => chain.base?.hook === hook)
    .sort((a, b) => (a.base?.priority ?? 0) - (b.base?.priority ?? 0));
  const touches: FilterTouch[] = [];
  const state: FilterState = { mark: 0 };
  let doubtful = false;
  for (const base of bases) {
    const walk = new ChainWalk(ruleset, base, packet, state, touches);
    const ended = walk.run();
    if (ended === 'drop') return { verdict: 'drop', touches };
    doubtful ||= ended === 'maybe-drop';
  }
  return { verdict: doubtful ? 'maybe-drop' : 'pass', touches };
}

type Ending = 'accept' | 'drop' | 'return' | undefined;

/** Deeper jumps than this are a loop, which the kernel refuses to load. */
const MAX_DEPTH = 64;

class ChainWalk {
  /** A rule before may have let the packet through already, so what follows is not certain. */
  private shielded = false;
  private mayDrop = false;

  constructor(
    private readonly ruleset: FilterRuleset,
    private readonly base: FilterChain,
    private readonly packet: FilterPacket,
    private readonly state: FilterState,
    private readonly touches: FilterTouch[],
  ) {}

  run(): FilterOutcome['verdict'] {
    const ended = this.walk(this.base, false, 0);
    const dropped = ended === 'drop' || (ended !== 'accept' && this.base.base?.policy === 'drop');
    if (!dropped) return this.mayDrop ? 'maybe-drop' : 'pass';
    if (ended !== 'drop') {
      this.touches.push({ chain: this.base.name, rule: 'policy drop', does: 'drop', certain: !this.shielded });
    }
    return this.shielded ? 'maybe-drop' : 'drop';
  }

  /** @param doubtful - whether it is not certain that the packet comes here at all */
  private walk(chain: FilterChain, doubtful: boolean, depth: number): Ending {
    for (const rule of chain.rules) {
      const matches = all(rule.conditions, this.packet, this.state);
      if (matches === false) continue;
      const certain = matches === true && !doubtful;
      const ended = this.act(chain, rule, certain, depth);
      if (ended !== undefined && certain) return ended;
      if (ended === 'accept' || ended === 'return') this.shielded = true;
    }
    return undefined;
  }

  private act(chain: FilterChain, rule: FilterRule, certain: boolean, depth: number): Ending {
    const { action } = rule;
    const touch = (does: FilterTouch['does']): void => {
      this.touches.push({ chain: chain.name, rule: rule.text, does, certain: certain && !this.shielded });
    };
    switch (action.kind) {
      case 'accept':
        touch('accept');
        return 'accept';
      case 'drop':
      case 'reject':
        touch(action.kind);
        if (!certain) this.mayDrop = true;
        return certain ? 'drop' : undefined;
      case 'masquerade':
      case 'snat':
      case 'dnat':
        touch(action.kind);
        return 'accept';
      case 'return':
        return 'return';
      case 'mark':
        this.state.mark = undefined;
        return undefined;
      case 'jump':
      case 'goto':
        return this.follow(chain, action, certain, depth);
      case 'other':
        return undefined;
    }
  }

  private follow(
    from: FilterChain,
    action: { readonly kind: 'jump' | 'goto'; readonly chain: string },
    certain: boolean,
    depth: number,
  ): Ending {
    const target = this.ruleset.find(({ table, localName }) => table === from.table && localName === action.chain);
    if (target === undefined || depth >= MAX_DEPTH) return undefined;
    const ended = this.walk(target, !certain, depth + 1);
    if (ended === 'accept' || ended === 'drop') return ended;
    return action.kind === 'goto' ? 'return' : undefined;
  }
}

function all(conditions: readonly FilterCondition[], packet: FilterPacket, state: FilterState): Truth {
  let known = true;
  for (const condition of conditions) {
    const truth = condition(packet, state);
    if (truth === false) return false;
    if (truth === undefined) known = false;
  }
  return known ? true : undefined;
}

/** The opposite of a condition. */
export function negate(condition: FilterCondition): FilterCondition {
  return (packet, state) => {
    const truth = condition(packet, state);
    return truth === undefined ? undefined : !truth;
  };
}

/** A condition that cannot be told beforehand. */
export const UNKNOWN_CONDITION: FilterCondition = () => undefined;
