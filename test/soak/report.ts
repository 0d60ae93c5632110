/** A soak as tables. */
import { formatFacts, formatTable } from '../../src/flannelctl/table.js';
import type { Paint } from '../../src/flannelctl/paint.js';
import type { Row } from './account.js';
import type { Course } from './agent.js';
import type { SoakReport } from './soak.js';

const RIGHT = 'right' as const;

export function soakReport(report: SoakReport, paint: Paint): string[] {
  return [
    ...packetTable(report, paint),
    '',
    ...legTable(report, paint),
    '',
    ...flowTable(report, paint),
    '',
    ...agentTable(report, paint),
    '',
    ...facts(report),
  ];
}

function packetTable({ account: { sent, fate, missing } }: SoakReport, paint: Paint): string[] {
  const total = (rows: readonly Row[]): number => rows.reduce((sum, { packets }) => sum + packets, 0);
  const rows = (group: string, all: readonly Row[]): string[][] => [
    ...all.map(({ what, packets }) => [group, what, number(packets)]),
    [group, 'together', number(total(all))],
  ];
  const [delivered, ...lost] = fate;
  const fates = [delivered, ...lost.sort((one, other) => other.packets - one.packets)];
  return formatTable(
    [{ title: 'PACKETS' }, { title: 'WHICH' }, { title: 'COUNT', align: RIGHT }],
    [...rows('sent', sent), ...rows('became of them', fates), ['missing', '', number(missing)]],
    paint,
  );
}

function legTable({ account: { legs } }: SoakReport, paint: Paint): string[] {
  return formatTable(
    [
      { title: 'LEG' },
      { title: 'NODE' },
      ...['CAME', 'WENT ON', 'LOST', 'MISSING'].map((title) => ({ title, align: RIGHT })),
    ],
    legs.map(({ name, node, came, wentOn, lost, missing }) => [
      ...[name, node, number(came), number(wentOn)],
      ...[number(lost.reduce((sum, { packets }) => sum + packets, 0)), number(missing)],
    ]),
    paint,
  );
}

function flowTable({ traffic: { flows, streams, pings } }: SoakReport, paint: Paint): string[] {
  const names = [...new Set(flows.map(({ name }) => name))];
  const of = (name: string, field: 'sent' | 'lost' | 'outOfOrder'): number =>
    flows.filter((flow) => flow.name === name).reduce((sum, flow) => sum + flow[field], 0);
  const bytes = streams.reduce((sum, stream) => sum + stream.bytes, 0);
  return formatTable(
    [{ title: 'FLOW' }, ...['SENT', 'LOST', 'OUT OF ORDER'].map((title) => ({ title, align: RIGHT }))],
    [
      ...names.map((name) => [
        name,
        ...(['sent', 'lost', 'outOfOrder'] as const).map((field) => number(of(name, field))),
      ]),
      ['pings', number(pings.sent), number(pings.sent - pings.received), '-'],
      [
        `TCP bytes, ${streams.every(({ intact }) => intact) ? 'each as it was sent' : 'NOT each as it was sent'}`,
        ...[number(bytes), '-', '-'],
      ],
    ],
    paint,
  );
}

function agentTable({ agents }: SoakReport, paint: Paint): string[] {
  const course = ({ start, end, most }: Course, unit = 1): string =>
    [start, end, most].map((value) => number(Math.round(value / unit))).join(' / ');
  return formatTable(
    [
      { title: 'AGENT' },
      ...['RESTARTS', 'TAKEOVERS', 'KILLS', 'CRASHES', 'MIB START/END/MOST', 'DESCRIPTORS', 'LOG LINES', 'LAPSES'].map(
        (title) => ({
          title,
          align: RIGHT,
        }),
      ),
    ],
    agents.map(({ node, restarts, takeovers, kills, crashes, memoryKib, descriptors, logLines, lapses }) => [
      ...[node, ...[restarts, takeovers, kills, crashes].map(number), course(memoryKib, 1024), course(descriptors)],
      ...[number(logLines), `${lapses.length} (${lapses.reduce((sum, { seconds }) => sum + seconds, 0).toFixed(1)} s)`],
    ]),
    paint,
  );
}

function facts({ seconds, events, churned, agents }: SoakReport): string[] {
  const reasons = [...new Set(agents.flatMap(({ lapses }) => lapses.map(({ reason }) => reason)))];
  return formatFacts([
    ['time', `${seconds.toFixed(0)} s`],
    [
      'events',
      Object.entries(events)
        .map(([name, times]) => `${name} ${times}`)
        .join(', '),
    ],
    ['leases', `${number(churned.written)} written, ${number(churned.deleted)} deleted`],
    ['not ready', reasons.length === 0 ? 'never' : reasons],
  ]);
}

function number(value: number): string {
  return value.toLocaleString('en-US');
}
