import { formatPrefix, parseIpv4, parsePrefix, type Ipv4Prefix } from '../../packet/address.js';
import { runCommand, type RunCommand } from '../command.js';
import type { FilterChange, PacketFilter } from './packet-filter.js';
import { isIdle, planChain, type ChainPlan, type PresentRule } from './plan.js';
import {
  CHAIN_KINDS,
  CHAINS,
  type AddressMatch,
  type ChainKind,
  type FirewallChain,
  type FirewallRule,
  type MarkMatch,
  type RuleAction,
  type WantedRules,
} from './rules.js';
import { settle, type Transaction } from './transaction.js';

/** The programs to use; iptables-nft and iptables-legacy answer and understand the same. */
export interface IptablesPrograms {
  readonly save: string;
  readonly restore: string;
}

const DEFAULT_PROGRAMS: IptablesPrograms = { save: 'iptables-save', restore: 'iptables-restore' };

/** How long to wait for another program that changes rules (the xtables lock), in seconds. */
const LOCK_WAIT_SECONDS = 10;

/** Rules by way of `iptables-save` and `iptables-restore`. */
export class Iptables implements PacketFilter {
  readonly name = 'iptables';
  readonly #run: RunCommand;
  readonly #programs: IptablesPrograms;

  constructor(run: RunCommand = runCommand, programs: IptablesPrograms = DEFAULT_PROGRAMS) {
    this.#run = run;
    this.#programs = programs;
  }

  apply(wanted: WantedRules, networks: readonly Ipv4Prefix[]): Promise<FilterChange> {
    return settle(
      () => this.#look(wanted, networks),
      async (input) => {
        await this.#run(this.#programs.restore, ['--noflush', '-w', String(LOCK_WAIT_SECONDS)], {
          input,
          timeoutMs: (LOCK_WAIT_SECONDS + 20) * 1000,
        });
      },
    );
  }

  async #look(wanted: WantedRules, networks: readonly Ipv4Prefix[]): Promise<Transaction | undefined> {
    // Without a table's name only the tables that exist are read; naming one would create it.
    const saved = parseIptablesSave((await this.#run(this.#programs.save, [])).stdout);
    const work = CHAIN_KINDS.map((kind) => planTable(kind, saved, wanted[kind], networks)).filter(({ idle }) => !idle);
    if (work.length === 0) return undefined;
    return {
      input: work.map(({ input }) => input).join(''),
      change: {
        added: work.reduce((sum, { plan }) => sum + plan.append.length + plan.prepend.length, 0),
        removed: work.reduce((sum, { plan }) => sum + plan.remove.length, 0),
        dropped: work
          .filter(({ dropped }) => dropped)
          .map(({ chain }) => `chain ${chain.name} (iptables ${chain.table})`),
      },
    };
  }
}

/** What `iptables-save` printed: the rules of every chain, as it writes them after `-A chain`. */
export type SavedTables = ReadonlyMap<string, ReadonlyMap<string, readonly string[]>>;

/** Reads what `iptables-save` printed; lines that are none of tables, chains or rules are passed over. */
export function parseIptablesSave(text: string): SavedTables {
  const tables = new Map<string, Map<string, string[]>>();
  let chains = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) {
      chains = new Map();
      tables.set(line.slice(1).trim(), chains);
    } else if (line.startsWith(':')) {
      chains.set(line.slice(1).split(' ', 1)[0], []);
    } else if (line.startsWith('-A ')) {
      const [, chain, specification] = /^-A (\S+) ?(.*)$/.exec(line) ?? [];
      chains.get(chain)?.push(specification);
    }
  }
  return tables;
}

interface TableWork {
  readonly chain: FirewallChain;
  readonly plan: ChainPlan<string>;
  readonly idle: boolean;
  readonly dropped: boolean;
  /** A block for `iptables-restore`, which takes it as a whole or not at all. */
  readonly input: string;
}

/** Compares one table with what is wanted of it, and writes down what is to be done. Pure, for the tests. */
export function planTable(
  kind: ChainKind,
  saved: SavedTables,
  wanted: readonly FirewallRule[],
  networks: readonly Ipv4Prefix[],
): TableWork {
  const chain = CHAINS[kind];
  const chains = saved.get(chain.table);
  const specifications = chains?.get(chain.name);
  const present = specifications?.map((specification): PresentRule<string> => ({
    rule: parseRule(chain, specification),
    handle: specification,
  }));
  const plan = planChain(kind, present, wanted, networks);

  const jumps = (chains?.get(chain.hook) ?? []).filter((specification) => isJump(chain, specification));
  const references = [...(chains?.values() ?? [])].flat().filter((specification) => leadsTo(chain, specification));
  // A chain that others jump to as well stays, if empty.
  const dropped = plan.drop && references.length === jumps.length;
  const needsJump = wanted.length > 0 && jumps.length !== 1;

  const lines: string[] = [];
  // `:CHAIN` would empty a chain that somebody has made meanwhile. `-N` fails instead (or goes on with that chain, as
  // iptables-nft does), and all is looked at again.
  if (present === undefined && wanted.length > 0) lines.push(`-N ${chain.name}`);
  if (dropped) {
    for (const jump of jumps) lines.push(`-D ${chain.hook} ${jump}`);
    lines.push(`-F ${chain.name}`, `-X ${chain.name}`);
  } else {
    for (const specification of plan.remove) lines.push(`-D ${chain.name} ${specification}`);
    for (const rule of [...plan.prepend].reverse()) lines.push(`-I ${chain.name} ${formatRule(chain, rule)}`);
    for (const rule of plan.append) lines.push(`-A ${chain.name} ${formatRule(chain, rule)}`);
    if (needsJump) {
      for (const jump of jumps) lines.push(`-D ${chain.hook} ${jump}`);
      lines.push(`-A ${chain.hook} ${jumpSpecification(chain)}`);
    }
  }
  const idle = lines.length === 0 || (isIdle(plan) && !needsJump);
  return { chain, plan, idle, dropped, input: `*${chain.table}\n${lines.map((line) => `${line}\n`).join('')}COMMIT\n` };
}

function jumpSpecification(chain: FirewallChain): string {
  return `-m comment --comment "${chain.comment}" -j ${chain.name}`;
}

function isJump(chain: FirewallChain, specification: string): boolean {
  return splitWords(specification).join(' ') === splitWords(jumpSpecification(chain)).join(' ');
}

function leadsTo(chain: FirewallChain, specification: string): boolean {
  const words = splitWords(specification);
  return words.some((word, index) => word === chain.name && ['-j', '-g'].includes(words[index - 1]));
}

const TARGETS: Readonly<Record<RuleAction, string>> = {
  accept: 'ACCEPT',
  return: 'RETURN',
  masquerade: 'MASQUERADE',
  'masquerade-fully-random': 'MASQUERADE --random-fully',
};

/** Writes a rule as `iptables-save` would. */
export function formatRule(chain: FirewallChain, rule: FirewallRule): string {
  const address = (option: string, match: AddressMatch | undefined) =>
    match === undefined ? [] : [`${match.negated ? '! ' : ''}${option} ${formatPrefix(match.prefix)}`];
  const hex = (value: number) => `0x${value.toString(16)}`;
  return [
    ...address('-s', rule.source),
    ...address('-d', rule.destination),
    ...(rule.mark === undefined ? [] : [`-m mark --mark ${hex(rule.mark.value)}/${hex(rule.mark.mask)}`]),
    `-m comment --comment "${chain.comment}"`,
    `-j ${TARGETS[rule.action]}`,
  ].join(' ');
}

/** Reads a rule of the kinds that flannel writes, with its comment; `undefined` for any other. */
export function parseRule(chain: FirewallChain, specification: string): FirewallRule | undefined {
  const words = splitWords(specification);
  let source: AddressMatch | undefined;
  let destination: AddressMatch | undefined;
  let mark: MarkMatch | undefined;
  let comment: string | undefined;
  let target = '';
  let negated = false;
  while (words.length > 0) {
    const word = words.shift();
    if (word === '!') {
      negated = true;
      continue;
    }
    if (word === '-s' || word === '-d') {
      const prefix = parseAddress(words.shift() ?? '');
      if (prefix === undefined) return undefined;
      if (word === '-s') source = { prefix, negated };
      else destination = { prefix, negated };
      negated = false;
      continue;
    }
    if (negated) return undefined;
    if (word === '-m') {
      const match = words.shift() ?? '';
      if (!['comment', 'mark'].includes(match)) return undefined;
    } else if (word === '--comment') {
      comment = words.shift();
    } else if (word === '--mark') {
      mark = parseMark(words.shift() ?? '');
      if (mark === undefined) return undefined;
    } else if (word === '-j') {
      target = words.join(' ');
      words.length = 0;
    } else {
      return undefined;
    }
  }
  const action = (Object.keys(TARGETS) as RuleAction[]).find((candidate) => TARGETS[candidate] === target);
  if (action === undefined || comment !== chain.comment) return undefined;
  return { source, destination, mark, action };
}

function parseAddress(text: string): Ipv4Prefix | undefined {
  const address = parseIpv4(text);
  return address === undefined ? parsePrefix(text) : { address, length: 32 };
}

function parseMark(text: string): MarkMatch | undefined {
  const [value, mask] = text.split('/').map(Number);
  if (!Number.isInteger(value)) return undefined;
  return { value, mask: mask ?? 0xffffffff };
}

/** Splits a line of `iptables-save` at blanks, honouring its double quotes and backslashes. */
function splitWords(text: string): string[] {
  const words = text.match(/"(?:[^"\\]|\\.)*"|\S+/g) ?? [];
  return words.map((word) => (word.startsWith('"') ? word.slice(1, -1).replace(/\\(.)/g, '$1') : word));
}
