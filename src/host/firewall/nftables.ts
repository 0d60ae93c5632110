import { FlannelError } from '../../errors.js';
import { formatPrefix, parseIpv4, prefixOf, type Ipv4Prefix } from '../../packet/address.js';
import { runCommand, type RunCommand } from '../command.js';
import type { FilterChange, PacketFilter } from './packet-filter.js';
import { isIdle, planChain, type ChainPlan, type PresentRule } from './plan.js';
import {
  CHAIN_KINDS,
  CHAINS,
  type AddressMatch,
  type FirewallChain,
  type FirewallRule,
  type MarkMatch,
  type RuleAction,
  type WantedRules,
} from './rules.js';
import { settle, type Transaction } from './transaction.js';

/** Flannel's table, as nft addresses it. */
const TABLE = 'ip flannel-ipv4';

/**
 * Rules by way of `nft`, in the table that flannel uses. They say the same as the ones for iptables, in the same order.
 * (Flannel's own differ there by mistake: its fourth rule returns what its sixth would masquerade.)
 */
export class Nftables implements PacketFilter {
  readonly name = 'nftables';
  readonly #run: RunCommand;

  constructor(run: RunCommand = runCommand) {
    this.#run = run;
  }

  apply(wanted: WantedRules, networks: readonly Ipv4Prefix[]): Promise<FilterChange> {
    return settle(
      async () => planNftables(await this.#read(), wanted, networks),
      async (input) => {
        await this.#run('nft', ['-f', '-'], { input });
      },
    );
  }

  /** The table as it is; `undefined` when there is none. */
  async #read(): Promise<NftTable | undefined> {
    const { status, stdout, stderr } = await this.#run('nft', ['-j', 'list', 'table', ...TABLE.split(' ')], {
      allowFailure: true,
    });
    if (status === 0) return parseNftTable(stdout);
    if (stderr.includes('No such file or directory')) return undefined;
    throw new FlannelError('HOST', `\`nft -j list table ${TABLE}\` failed: ${stderr.trim().split('\n')[0]}`);
  }
}

/** The rules of each chain of the table, by the chain's name. */
export type NftTable = ReadonlyMap<string, readonly PresentRule<number>[]>;

/**
 * Compares the table with what is wanted of it, and writes a transaction for `nft -f`. Pure, for the tests.
 * @returns `undefined` when all is as wanted
 */
export function planNftables(
  table: NftTable | undefined,
  wanted: WantedRules,
  networks: readonly Ipv4Prefix[],
): Transaction | undefined {
  const lines: string[] = [];
  const plans: ChainPlan<number>[] = [];
  const droppedChains: FirewallChain[] = [];
  for (const kind of CHAIN_KINDS) {
    const chain = CHAINS[kind];
    const present = table?.get(chain.nftName);
    const plan = planChain(kind, present, wanted[kind], networks);
    plans.push(plan);
    if (isIdle(plan)) continue;
    const where = `${TABLE} ${chain.nftName}`;
    if (plan.drop) {
      droppedChains.push(chain);
      lines.push(`flush chain ${where}`, `delete chain ${where}`);
      continue;
    }
    // `create` fails when somebody has made the chain meanwhile, and all is looked at again.
    if (present === undefined) lines.push(`add table ${TABLE}`, `create chain ${where} { ${chain.nftType} }`);
    for (const handle of plan.remove) lines.push(`delete rule ${where} handle ${handle}`);
    for (const rule of [...plan.prepend].reverse()) lines.push(`insert rule ${where} ${formatRule(chain, rule)}`);
    for (const rule of plan.append) lines.push(`add rule ${where} ${formatRule(chain, rule)}`);
  }
  const dropped = droppedChains.map((chain) => `chain ${chain.nftName} (nftables ${TABLE})`);
  if (table !== undefined && droppedChains.length > 0 && droppedChains.length === table.size) {
    lines.push(`delete table ${TABLE}`);
    dropped.push(`table ${TABLE} (nftables)`);
  }
  if (lines.length === 0) return undefined;
  return {
    input: lines.map((line) => `${line}\n`).join(''),
    change: {
      added: plans.reduce((sum, plan) => sum + plan.append.length + plan.prepend.length, 0),
      removed: plans.reduce((sum, plan) => sum + plan.remove.length, 0),
      dropped,
    },
  };
}

const STATEMENTS: Readonly<Record<RuleAction, string>> = {
  accept: 'accept',
  return: 'return',
  masquerade: 'masquerade',
  'masquerade-fully-random': 'masquerade fully-random',
};

/** Writes a rule in nft's language. */
export function formatRule(chain: FirewallChain, rule: FirewallRule): string {
  const address = (field: string, match: AddressMatch | undefined) =>
    match === undefined ? [] : [`ip ${field} ${match.negated ? '!= ' : ''}${formatPrefix(match.prefix)}`];
  const hex = (value: number) => `0x${value.toString(16)}`;
  return [
    ...(rule.mark === undefined ? [] : [`meta mark & ${hex(rule.mark.mask)} == ${hex(rule.mark.value)}`]),
    ...address('saddr', rule.source),
    ...address('daddr', rule.destination),
    STATEMENTS[rule.action],
    `comment "${chain.comment}"`,
  ].join(' ');
}

/** The parts of nft's JSON (libnftables-json(5)) that flannel's rules are made of. */
interface NftJson {
  readonly nftables: readonly {
    readonly chain?: { readonly name: string };
    readonly rule?: NftJsonRule;
  }[];
}

interface NftJsonRule {
  readonly chain: string;
  readonly handle: number;
  readonly comment?: string;
  readonly expr: readonly NftExpression[];
}

interface NftExpression {
  readonly match?: { readonly op: string; readonly left: NftOperand; readonly right: unknown };
  readonly masquerade?: { readonly flags?: string | readonly string[] } | null;
  readonly return?: null;
  readonly accept?: null;
  readonly counter?: unknown;
}

interface NftOperand {
  readonly payload?: { readonly protocol: string; readonly field: string };
  readonly meta?: { readonly key: string };
  readonly '&'?: readonly unknown[];
}

/** Reads the answer of `nft -j list table`. @throws FlannelError `HOST` when it is not JSON */
export function parseNftTable(text: string): NftTable {
  let json: NftJson;
  try {
    json = JSON.parse(text) as NftJson;
  } catch (error) {
    throw new FlannelError('HOST', '`nft -j` did not answer JSON: an nft with JSON support is needed', {
      cause: error,
    });
  }
  const table = new Map<string, PresentRule<number>[]>();
  for (const { chain, rule } of json.nftables) {
    if (chain !== undefined) table.set(chain.name, []);
    if (rule !== undefined) table.get(rule.chain)?.push({ rule: parseRule(rule), handle: rule.handle });
  }
  return table;
}

function parseRule(json: NftJsonRule): FirewallRule | undefined {
  const chain = Object.values(CHAINS).find((candidate) => candidate.nftName === json.chain);
  // Flannel writes no comments here; ours have one. A rule with another comment is somebody else's.
  if (chain === undefined || (json.comment !== undefined && json.comment !== chain.comment)) return undefined;
  let source: AddressMatch | undefined;
  let destination: AddressMatch | undefined;
  let mark: MarkMatch | undefined;
  let action: RuleAction | undefined;
  for (const expression of json.expr) {
    if (expression.match !== undefined) {
      const { op, left, right } = expression.match;
      const field = left.payload?.protocol === 'ip' ? left.payload.field : undefined;
      const prefix = parseOperand(right);
      if ((field === 'saddr' || field === 'daddr') && prefix !== undefined && (op === '==' || op === '!=')) {
        const match = { prefix, negated: op === '!=' };
        if (field === 'saddr') source = match;
        else destination = match;
      } else {
        mark = op === '==' ? parseMark(left, right) : undefined;
        if (mark === undefined) return undefined;
      }
    } else if ('return' in expression) {
      action = 'return';
    } else if ('accept' in expression) {
      action = 'accept';
    } else if ('masquerade' in expression) {
      action = parseMasquerade(expression.masquerade?.flags);
      if (action === undefined) return undefined;
    } else if (!('counter' in expression)) {
      return undefined;
    }
  }
  return action === undefined ? undefined : { source, destination, mark, action };
}

function parseMasquerade(flags: string | readonly string[] | undefined): RuleAction | undefined {
  const list = flags === undefined ? [] : [flags].flat();
  if (list.length === 0) return 'masquerade';
  return list.length === 1 && list[0] === 'fully-random' ? 'masquerade-fully-random' : undefined;
}

function parseOperand(right: unknown): Ipv4Prefix | undefined {
  if (typeof right === 'string') {
    const address = parseIpv4(right);
    return address === undefined ? undefined : { address, length: 32 };
  }
  const prefix = (right as { prefix?: { addr?: string; len?: number } } | null)?.prefix;
  const address = parseIpv4(prefix?.addr ?? '');
  return address === undefined || prefix?.len === undefined ? undefined : prefixOf(address, prefix.len);
}

function parseMark(left: NftOperand, right: unknown): MarkMatch | undefined {
  if (typeof right !== 'number') return undefined;
  if (left.meta?.key === 'mark') return { value: right, mask: 0xffffffff };
  const [operand, mask] = left['&'] ?? [];
  const masked = (operand as NftOperand | undefined)?.meta?.key === 'mark' && typeof mask === 'number';
  return masked ? { value: right, mask } : undefined;
}
