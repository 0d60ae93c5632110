/** An assault as tables. */
import { formatFacts, formatTable } from '../../src/flannelctl/table.js';
import type { Paint } from '../../src/flannelctl/paint.js';
import type { DirectionCounters } from '../../src/dataplane/counters.js';
import type { Assault } from './assault.js';
import { countedPackets } from './counters.js';
import type { Origin } from './floods.js';

const ORIGINS: readonly Origin[] = ['unleased', 'leased', 'pod', 'device'];

export function assaultReport(assault: Assault, paint: Paint): string[] {
  return [...sentTable(assault, paint), '', ...fateTable(assault, paint), '', ...facts(assault)];
}

function sentTable({ sent }: Assault, paint: Paint): string[] {
  const kinds = [...new Set(sent.flatMap(({ byKind }) => Object.keys(byKind)))];
  const of = (kind: string | undefined, origin: Origin): number =>
    sent
      .filter(({ flood }) => flood.origin === origin)
      .flatMap(({ byKind }) => Object.entries(byKind))
      .filter(([name]) => kind === undefined || name === kind)
      .reduce((sum, [, packets]) => sum + packets, 0);
  const row = (title: string, kind: string | undefined): string[] => {
    const packets = ORIGINS.map((origin) => of(kind, origin));
    return [title, ...packets.map(number), number(packets.reduce((sum, some) => sum + some, 0))];
  };
  return formatTable(
    [
      { title: 'SENT' },
      ...[...ORIGINS.map((origin) => origin.toUpperCase()), 'TOGETHER'].map((title) => ({
        title,
        align: 'right' as const,
      })),
    ],
    [...kinds.map((kind) => row(kind, kind)), row('together', undefined)],
    paint,
  );
}

function fateTable(assault: Assault, paint: Paint): string[] {
  const { counts, underlayMissing, tunMissing } = assault;
  const rows = (way: string, counters: DirectionCounters, forwarded: string): string[][] => [
    [way, forwarded, number(counters.packets)],
    ...Object.entries(counters.dropped)
      .sort(([, one], [, other]) => other - one)
      .map(([reason, packets]) => [way, `dropped: ${reason}`, number(packets)]),
  ];
  const underlay = countedPackets(counts.decap) + counts.socketDrops + counts.deviceDrops;
  return formatTable(
    [{ title: 'WAY' }, { title: 'WHAT BECAME OF IT' }, { title: 'PACKETS', align: 'right' }],
    [
      ...rows('in', counts.decap, 'written to flannel0'),
      ['in', "no room in the socket's queue", number(counts.socketDrops)],
      ['in', 'no room in a device before it', number(counts.deviceDrops)],
      ['in', `together, of ${number(underlay + underlayMissing)} sent`, number(underlay)],
      ...rows('out', counts.encap, 'sent to the other node'),
      ['out', `together, of ${number(counts.tunRead)} read from flannel0`, number(counts.tunRead - tunMissing)],
      ['out', "no room in flannel0's queue", number(counts.tunDrops)],
      ['out', 'refused by the IP layer', number(counts.ipRefused)],
    ],
    paint,
  );
}

function facts({ honest, after, memoryKib, logged, seconds, counts }: Assault): string[] {
  const mib = (kib: number): string => `${(kib / 1024).toFixed(1)} MiB`;
  const pings = ({ sent, received }: { readonly sent: number; readonly received: number }): string =>
    `${number(received)} of ${number(sent)} pings answered`;
  return formatFacts([
    ['honest', `${pings(honest)} meanwhile, ${pings(after)} after it`],
    ['datagrams of the other node', number(counts.fromPeer)],
    [
      'memory',
      `${mib(memoryKib.start)} at the start, ${mib(memoryKib.end)} at the end, ${mib(memoryKib.most)} at most`,
    ],
    ['log', `${logged.length} lines`],
    ['time', `${seconds.toFixed(1)} s`],
  ]);
}

function number(value: number): string {
  return value.toLocaleString('en-US');
}
