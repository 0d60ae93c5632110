import type { Busy, Flow, SubnetPair, TopBy } from '../debug/top/traffic-sketch.js';
import type { TapLoss } from '../observe/tap-protocol.js';
import type { Paint } from './paint.js';
import { formatTable } from './table.js';
import { wordCount } from './wording.js';

/** What `flannelctl top --json` prints. Bytes and packets are of all the time, scaled up from the sample. */
export interface TopAnswer {
  /** ISO 8601: the end. */
  readonly time: string;
  /** The address by which other nodes know this one. */
  readonly node: string;
  readonly seconds: number;
  readonly by: TopBy;
  /** One packet in so many was looked at. */
  readonly sampledEvery: number;
  /** Packets that were. */
  readonly records: number;
  /** Those that should have been and were not. */
  readonly lost: TapLoss;
  readonly total: { readonly bytes: number; readonly packets: number; readonly dropped: number };
  readonly pairs: readonly Busy<SubnetPair>[];
  readonly flows: readonly Busy<Flow>[];
}

/** The same for people: rates, the busiest first. */
export function topReport(answer: TopAnswer, paint: Paint): string[] {
  const { node, seconds, total, sampledEvery, pairs, flows } = answer;
  const sample = sampledEvery === 1 ? 'every packet' : `one packet in ${wordCount(sampledEvery)}`;
  const rate = `${megabits(total.bytes, seconds)} Mbit/s, ${perSecond(total.packets, seconds)} packets/s`;
  const head = `${node}: ${rate}; looked at ${sample} for ${seconds.toFixed(1)} s`;
  if (pairs.length === 0) return [head, '', 'no packets passed'];
  const end = (address: string, port: number | null): string => (port === null ? address : `${address}:${port}`);
  return [
    head,
    '',
    ...table(
      ['PAIRS OF SUBNETS', 'FROM', 'TO'],
      pairs.map((pair) => [[pair.direction, pair.source, pair.destination], pair]),
      seconds,
      paint,
    ),
    '',
    ...table(
      ['FLOWS', 'PROTOCOL', 'FROM', 'TO'],
      flows.map((flow) => [
        [
          ...[flow.direction, flow.protocol],
          ...[end(flow.source, flow.sourcePort), end(flow.destination, flow.destinationPort)],
        ],
        flow,
      ]),
      seconds,
      paint,
    ),
  ];
}

function table(
  titles: readonly string[],
  lines: readonly (readonly [cells: readonly string[], traffic: Busy<unknown>])[],
  seconds: number,
  paint: Paint,
): string[] {
  const rows = lines.map(([cells, { bytes, packets, dropped, share }]) => [
    ...cells,
    megabits(bytes, seconds),
    perSecond(packets, seconds),
    percent(share),
    dropped === 0 ? '' : percent(dropped / packets),
  ]);
  const numbers = ['MBIT/S', 'PACKETS/S', 'SHARE', 'DROPPED'].map((title) => ({ title, align: 'right' as const }));
  const dress = (_row: number, column: number, text: string): string =>
    column === titles.length + 3 ? paint.bad(text) : text;
  return formatTable([...titles.map((title) => ({ title })), ...numbers], rows, paint, dress);
}

function megabits(bytes: number, seconds: number): string {
  const rate = (bytes * 8) / 1e6 / seconds;
  return rate >= 100 ? wordCount(Math.round(rate)) : rate.toFixed(rate >= 1 ? 1 : 3);
}

function perSecond(packets: number, seconds: number): string {
  const rate = packets / seconds;
  return rate >= 10 ? wordCount(Math.round(rate)) : rate.toFixed(1);
}

function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
}
