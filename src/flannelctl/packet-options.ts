import { type Command, InvalidArgumentError, Option } from 'commander';
import { compileFilter } from '../debug/compile-filter.js';
import { DROP_REASONS } from '../dataplane/drop-reasons.js';
import { UsageError } from '../errors.js';
import type { TapRequest } from '../observe/tap-protocol.js';
import { addDaemonOptions, type DaemonOptions } from './options.js';
import type { CommandContext } from './context.js';

const REASONS = DROP_REASONS.map(({ name }) => name);

/** What {@link addPacketOptions} fills: which packets a command is about. */
export interface PacketOptions extends DaemonOptions {
  readonly outer?: string;
  readonly drops?: true;
  readonly reason?: readonly string[];
  readonly direction?: 'encap' | 'decap';
  readonly count?: number;
  /** Milliseconds. */
  readonly duration?: number;
  readonly sample: number;
}

/** The argument and the options of every command that watches packets pass. */
export function addPacketOptions(command: Command, context: Pick<CommandContext, 'env'>): Command {
  command
    .argument('[filter...]', 'which inner packets: a pcap filter, such as host 10.5.2.3 and tcp port 80')
    .option('--outer <filter>', 'which datagrams around them: a pcap filter, such as host 192.0.2.7')
    .option('--drops', 'only packets that were dropped')
    .option(
      '--reason <reason>',
      'only packets dropped for this reason, or these, separated by commas; may be repeated',
      addReasons,
    )
    .addOption(
      new Option('--direction <direction>', 'only from pods to the underlay, or the way back').choices([
        'encap',
        'decap',
      ]),
    )
    .option('--count <packets>', 'end after so many', positive)
    .addOption(new Option('--duration <time>', 'end after this time, such as 30s or 5m').argParser(duration))
    .addOption(new Option('--sample <1/n>', 'look at one packet in so many').argParser(fraction).default(1, '1/1'));
  return addDaemonOptions(command, context);
}

/**
 * The request to the daemon for what the options say, filters compiled.
 * @throws UsageError for a bad filter; FlannelError `HOST` without tcpdump
 */
export async function packetRequest(
  filter: readonly string[],
  options: PacketOptions,
  shape: Pick<TapRequest, 'packetBytes' | 'wirePackets'>,
): Promise<TapRequest> {
  const expression = filter.join(' ').trim();
  const { outer, drops, reason, direction, sample } = options;
  const [inner, around] = await Promise.all([
    expression === '' ? undefined : compileFilter(expression),
    outer === undefined ? undefined : compileFilter(outer),
  ]);
  return {
    ...shape,
    filter: inner,
    outerFilter: around,
    direction,
    dropsOnly: drops,
    reasons: reason,
    every: sample,
  };
}

/** Reads a whole number of at least one. */
export function positive(text: string): number {
  if (!/^[1-9]\d{0,14}$/.test(text)) throw new InvalidArgumentError('expected a whole number from 1.');
  return Number(text);
}

function addReasons(text: string, earlier: readonly string[] = []): readonly string[] {
  const given = text.split(',');
  if (given.every((reason) => REASONS.includes(reason))) return [...earlier, ...given];
  throw new InvalidArgumentError(`expected some of ${REASONS.join(', ')}.`);
}

/** Reads `1/N`; returns the N. */
export function fraction(text: string): number {
  const match = /^1\/([1-9]\d{0,8})$/.exec(text);
  if (match === null) throw new InvalidArgumentError('expected one in a whole number, such as 1/1000.');
  return Number(match[1]);
}

/** Reads a time span: `30s`, `5m`, `1h`, or seconds without a unit; in milliseconds. */
export function duration(text: string): number {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(s|m|h)?$/.exec(text);
  const milliseconds = match === null ? 0 : Number(match[1]) * { s: 1000, m: 60_000, h: 3_600_000 }[match[2] ?? 's']!;
  if (milliseconds <= 0 || milliseconds >= 2 ** 31) {
    throw new InvalidArgumentError('expected a time such as 30s, 5m or 1h.');
  }
  return milliseconds;
}

/** Reads a size: `100M`, with K, M and G for powers of 1024, or bytes without a unit. */
export function fileSize(text: string): number {
  const match = /^([1-9]\d{0,11})([KMG])?$/i.exec(text);
  if (match === null) throw new InvalidArgumentError('expected a size such as 100M.');
  return Number(match[1]) * 1024 ** ' KMG'.indexOf((match[2] ?? ' ').toUpperCase());
}

/** Refuses options that only mean something together. @throws UsageError */
export function requireTogether(option: string, value: unknown, needed: string, other: unknown): void {
  if (value !== undefined && other === undefined) throw new UsageError(`${option} needs ${needed}`);
}
