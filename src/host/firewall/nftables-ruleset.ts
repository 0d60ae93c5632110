/** Rules as `nft -j list ruleset` prints them (libnftables-json(5)), for {@link filterAt}. */
import { protocolNumber } from '../../packet/ipv4.js';
import { addressCondition, deviceCondition, portCondition } from './iptables-ruleset.js';
import {
  negate,
  UNKNOWN_CONDITION,
  type FilterAction,
  type FilterChain,
  type FilterCondition,
  type FilterRule,
  type Hook,
} from './ruleset.js';

interface NftChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook?: string;
  readonly prio?: number;
  readonly policy?: string;
}

interface NftRule {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  readonly expr: readonly Record<string, unknown>[];
}

const HOOKS: readonly string[] = ['prerouting', 'input', 'forward', 'output', 'postrouting'] satisfies Hook[];

/** Tables of iptables-nft, which `iptables-save` shows as well. */
const IPTABLES_TABLES = new Set(['filter', 'nat', 'mangle', 'raw', 'security']);

/**
 * Every chain that IPv4 packets may meet.
 * @param withoutIptables - leaves out the tables that iptables-nft keeps, for they are known from `iptables-save`
 */
export function parseNftRuleset(text: string, withoutIptables: boolean): FilterChain[] {
  const { nftables = [] } = JSON.parse(text) as { nftables?: { chain?: NftChain; rule?: NftRule }[] };
  const wanted = ({ family, table }: { family: string; table: string }): boolean =>
    family === 'inet' || (family === 'ip' && !(withoutIptables && IPTABLES_TABLES.has(table)));
  const rules = new Map<string, FilterRule[]>();
  const chains: FilterChain[] = [];
  for (const { chain } of nftables) {
    if (chain === undefined || !wanted(chain)) continue;
    const table = `nft ${chain.family} ${chain.table}`;
    const own: FilterRule[] = [];
    rules.set(`${table} ${chain.name}`, own);
    const { hook, prio = 0, policy } = chain;
    chains.push({
      name: `${table} ${chain.name}`,
      table,
      localName: chain.name,
      base:
        hook !== undefined && HOOKS.includes(hook)
          ? { hook: hook as Hook, priority: prio, policy: policy === 'drop' ? 'drop' : 'accept' }
          : undefined,
      rules: own,
    });
  }
  for (const { rule } of nftables) {
    if (rule === undefined || !wanted(rule)) continue;
    rules.get(`nft ${rule.family} ${rule.table} ${rule.chain}`)?.push(parseRule(rule.expr));
  }
  return chains;
}

function parseRule(expressions: readonly Record<string, unknown>[]): FilterRule {
  const conditions: FilterCondition[] = [];
  const words: string[] = [];
  let action: FilterAction = { kind: 'other' };
  for (const expression of expressions) {
    const [kind] = Object.keys(expression);
    if (kind === 'match') {
      const match = expression.match as NftMatch;
      conditions.push(conditionOf(match));
      words.push(describeMatch(match));
    } else if (kind === 'vmap') {
      // A map of verdicts may end the packet's way through this chain, in whichever way.
      conditions.push(UNKNOWN_CONDITION);
      action = { kind: 'return' };
      words.push('vmap');
    } else if (kind === 'counter' || kind === 'log') {
      continue; // they decide nothing
    } else {
      const found = actionOf(kind, expression[kind]);
      // What is neither a match nor a verdict (limit, xt, …) may keep the rule from reaching its verdict.
      if (found === undefined) conditions.push(UNKNOWN_CONDITION);
      else action = found;
      words.push('chain' in (found ?? {}) ? `${kind} ${(found as { chain: string }).chain}` : kind);
    }
  }
  return { text: words.join(' '), conditions, action };
}

function actionOf(kind: string, value: unknown): FilterAction | undefined {
  switch (kind) {
    case 'accept':
    case 'drop':
    case 'reject':
    case 'return':
    case 'masquerade':
    case 'snat':
    case 'dnat':
      return { kind };
    case 'redirect':
      return { kind: 'dnat' };
    case 'jump':
    case 'goto':
      return { kind, chain: (value as { target: string }).target };
    case 'mangle':
      return { kind: 'mark' };
    default:
      return undefined;
  }
}

interface NftMatch {
  readonly op: string;
  readonly left: {
    readonly payload?: { readonly protocol?: string; readonly field?: string };
    readonly meta?: { readonly key: string };
    readonly ct?: { readonly key: string };
  };
  readonly right: unknown;
}

function conditionOf({ op, left, right }: NftMatch): FilterCondition {
  const values = valuesOf(right);
  if (values === undefined || (op !== '==' && op !== '!=' && op !== 'in')) return UNKNOWN_CONDITION;
  const conditions = values.map((value) => oneValue(left, value));
  const any: FilterCondition = (packet, state) => {
    const truths = conditions.map((condition) => condition(packet, state));
    if (truths.includes(true)) return true;
    return truths.includes(undefined) ? undefined : false;
  };
  return op === '!=' ? negate(any) : any;
}

function oneValue({ payload, meta, ct }: NftMatch['left'], value: string): FilterCondition {
  if (payload?.protocol === 'ip') {
    if (payload.field === 'saddr') return addressCondition(value, 'source');
    if (payload.field === 'daddr') return addressCondition(value, 'destination');
    if (payload.field === 'protocol') return protocolCondition(value);
  }
  if (payload?.field === 'dport' || payload?.field === 'sport') {
    const port = portCondition(value, payload.field === 'dport' ? 'destinationPort' : 'sourcePort');
    const protocol = protocolNumber(payload.protocol ?? '');
    if (protocol === undefined) return port;
    return (packet, state) => packet.protocol === protocol && port(packet, state);
  }
  switch (meta?.key ?? '') {
    case 'iifname':
    case 'iif':
      return deviceCondition(value, 'inDevice');
    case 'oifname':
    case 'oif':
      return deviceCondition(value, 'outDevice');
    case 'l4proto':
      return protocolCondition(value);
    case 'mark':
      return (_packet, { mark }) => (mark === undefined ? undefined : mark === Number(value));
    case 'nfproto':
      return () => value === 'ipv4';
  }
  return ct?.key === 'state' ? () => value === 'new' : UNKNOWN_CONDITION;
}

function protocolCondition(value: string): FilterCondition {
  const number = protocolNumber(value) ?? Number(value);
  return Number.isNaN(number) ? UNKNOWN_CONDITION : ({ protocol }) => protocol === number;
}

/** The values on the right of a match, each as text; `undefined` for what is looked up elsewhere, such as a named set. */
function valuesOf(right: unknown): string[] | undefined {
  if (typeof right === 'number') return [String(right)];
  if (typeof right === 'string') return right.startsWith('@') ? undefined : [right];
  if (Array.isArray(right)) return joined(right);
  if (typeof right !== 'object' || right === null) return undefined;
  if ('prefix' in right) {
    const { addr, len } = right.prefix as { addr: string; len: number };
    return [`${addr}/${len}`];
  }
  if ('range' in right) return [(right.range as [number, number]).join('-')];
  return 'set' in right ? joined(right.set as unknown[]) : undefined;
}

function joined(values: readonly unknown[]): string[] | undefined {
  const lists = values.map(valuesOf);
  return lists.some((list) => list === undefined) ? undefined : lists.flatMap((list) => list ?? []);
}

function describeMatch({ op, left, right }: NftMatch): string {
  const { payload, meta, ct } = left;
  const what = payload === undefined ? (meta?.key ?? `ct ${ct?.key ?? '…'}`) : `${payload.protocol} ${payload.field}`;
  const values = valuesOf(right)?.join(', ') ?? (typeof right === 'string' ? right : '…');
  return `${what} ${op === '!=' ? '!= ' : ''}${values}`;
}
