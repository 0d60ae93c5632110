/** Rules as `iptables-save` prints them, for {@link filterAt}. */
import { parseIpv4, parsePrefix, prefixContains } from '../../packet/address.js';
import { PROTOCOL_TCP, PROTOCOL_UDP, protocolNumber } from '../../packet/ipv4.js';
import {
  negate,
  UNKNOWN_CONDITION,
  type FilterAction,
  type FilterChain,
  type FilterCondition,
  type FilterRule,
  type Hook,
} from './ruleset.js';

/** The hook of a built-in chain, and its priority in each table (linux/netfilter_ipv4.h). */
const HOOKS: Readonly<Record<string, Hook>> = {
  PREROUTING: 'prerouting',
  INPUT: 'input',
  FORWARD: 'forward',
  OUTPUT: 'output',
  POSTROUTING: 'postrouting',
};
const PRIORITIES: Readonly<Record<string, number>> = { raw: -300, mangle: -150, nat: -100, filter: 0, security: 50 };
const NAT_SOURCE_PRIORITY = 100;

/** Every chain that `iptables-save` printed. */
export function parseIptablesRuleset(text: string): FilterChain[] {
  const chains: FilterChain[] = [];
  let table = '';
  let rules = new Map<string, FilterRule[]>();
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) {
      table = line.slice(1).trim();
      rules = new Map();
    } else if (line.startsWith(':')) {
      const [name, policy] = line.slice(1).split(' ');
      const own: FilterRule[] = [];
      rules.set(name, own);
      const hook = policy === '-' ? undefined : HOOKS[name];
      chains.push({
        name: `iptables ${table} ${name}`,
        table: `iptables ${table}`,
        localName: name,
        base: hook && { hook, priority: priorityOf(table, hook), policy: policy === 'DROP' ? 'drop' : 'accept' },
        rules: own,
      });
    } else if (line.startsWith('-A ')) {
      const [, chain, specification] = /^-A (\S+) ?(.*)$/.exec(line) ?? [];
      rules.get(chain)?.push(parseRule(specification, rules));
    }
  }
  return chains;
}

function priorityOf(table: string, hook: Hook): number {
  if (table === 'nat' && (hook === 'postrouting' || hook === 'input')) return NAT_SOURCE_PRIORITY;
  return PRIORITIES[table] ?? 0;
}

function parseRule(specification: string, chains: ReadonlyMap<string, unknown>): FilterRule {
  const words = specification.match(/"(?:[^"\\]|\\.)*"|\S+/g) ?? [];
  const conditions: FilterCondition[] = [];
  let action: FilterAction = { kind: 'other' };
  let negated = false;
  for (let index = 0; index < words.length; index++) {
    const word = words[index];
    if (word === '!') {
      negated = true;
      continue;
    }
    if (word === '-j' || word === '-g') {
      action = actionOf(words[index + 1], word === '-g', chains);
      break; // what follows belongs to the target
    }
    if (word === '-m') {
      index++; // the match's options speak for themselves
      continue;
    }
    if (word === '--comment') {
      index++;
      continue;
    }
    const value = words[index + 1] ?? '';
    const condition = conditionOf(word, value);
    conditions.push(negated ? negate(condition) : condition);
    negated = false;
    // An option's value; one that has none (`-f`) is followed by another option.
    if (value !== '!' && !value.startsWith('-')) index++;
  }
  return { text: specification, conditions, action };
}

function actionOf(target: string, goto: boolean, chains: ReadonlyMap<string, unknown>): FilterAction {
  switch (target) {
    case 'ACCEPT':
      return { kind: 'accept' };
    case 'DROP':
      return { kind: 'drop' };
    case 'REJECT':
      return { kind: 'reject' };
    case 'RETURN':
      return { kind: 'return' };
    case 'MASQUERADE':
      return { kind: 'masquerade' };
    case 'SNAT':
      return { kind: 'snat' };
    case 'DNAT':
    case 'REDIRECT':
      return { kind: 'dnat' };
    case 'MARK':
    case 'CONNMARK':
      return { kind: 'mark' };
    default:
      return chains.has(target) ? { kind: goto ? 'goto' : 'jump', chain: target } : { kind: 'other' };
  }
}

function conditionOf(option: string, value: string): FilterCondition {
  switch (option) {
    case '-s':
      return addressCondition(value, 'source');
    case '-d':
      return addressCondition(value, 'destination');
    case '-i':
      return deviceCondition(value, 'inDevice');
    case '-o':
      return deviceCondition(value, 'outDevice');
    case '-p': {
      const number = protocolNumber(value) ?? (/^\d+$/.test(value) ? Number(value) : undefined);
      return number === undefined ? UNKNOWN_CONDITION : ({ protocol }) => protocol === number;
    }
    case '--dport':
    case '--dports':
      return portCondition(value, 'destinationPort');
    case '--sport':
    case '--sports':
      return portCondition(value, 'sourcePort');
    case '--ctstate':
    case '--state':
      return () => value.split(',').includes('NEW');
    case '--mark': {
      const [wanted, mask = '0xffffffff'] = value.split('/');
      return (_packet, { mark }) => (mark === undefined ? undefined : (mark & Number(mask)) >>> 0 === Number(wanted));
    }
    default:
      return UNKNOWN_CONDITION;
  }
}

/** A condition on an address: `10.5.0.0/16`, or one without a length. */
export function addressCondition(text: string, field: 'source' | 'destination'): FilterCondition {
  const address = parseIpv4(text);
  const prefix = address === undefined ? parsePrefix(text) : { address, length: 32 };
  if (prefix === undefined) return UNKNOWN_CONDITION;
  return (packet) => prefixContains(prefix, packet[field]);
}

/** A condition on a device's name; `+` (iptables) and `*` (nft) at the end stand for anything. */
export function deviceCondition(pattern: string, field: 'inDevice' | 'outDevice'): FilterCondition {
  const start = /^(.*)[+*]$/.exec(pattern)?.[1];
  return (packet) => {
    const device = packet[field] ?? '';
    return start === undefined ? device === pattern : device.startsWith(start);
  };
}

/** A condition on a port: `53`, `1000:2000`, `53,8285`. What has no port, or an unknown one, is told from the protocol. */
export function portCondition(text: string, field: 'sourcePort' | 'destinationPort'): FilterCondition {
  const ranges = text.split(',').map((range) => {
    const [from, to = from] = range.split(/[:-]/);
    return { from: Number(from), to: Number(to) };
  });
  if (ranges.some(({ from, to }) => Number.isNaN(from) || Number.isNaN(to))) return UNKNOWN_CONDITION;
  return (packet) => {
    const port = packet[field];
    if (port !== undefined) return ranges.some(({ from, to }) => port >= from && port <= to);
    return packet.protocol === PROTOCOL_TCP || packet.protocol === PROTOCOL_UDP ? undefined : false;
  };
}
