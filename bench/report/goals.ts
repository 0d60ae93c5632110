/** What the dataplane is meant to reach, and whether a run shows it. */
import { ratioAt, type Base, type Place, type Results } from '../results.js';
import { formatRatio, formatRatioRange } from './format.js';
import type { ReportTable } from './tables.js';

interface Goal {
  readonly title: string;
  readonly place: Place;
  readonly figure: string;
  readonly base: Base;
  /** What the base is called in the table. */
  readonly of: string;
  readonly relation: 'at least' | 'at most';
  readonly ratio: number;
}

const VXLAN = { base: { contender: 'vxlan' }, of: 'vxlan' } as const;
const FLANNEL = { base: { contender: 'flannel' }, of: "flannel's udp" } as const;
const AT_LEAST = { relation: 'at least' } as const;
const AT_MOST = { relation: 'at most' } as const;

function place(measure: string, mode = 'offloads', contender = 'flannelette'): Place {
  return { mode, measure, contender };
}

const TCP = { figure: 'gbits', place: place('tcp') } as const;
const UDP = { figure: 'received' } as const;

const GOALS: readonly Goal[] = [
  { title: 'TCP, one stream', ...TCP, ...VXLAN, ...AT_LEAST, ratio: 0.75 },
  { title: 'TCP, one stream', ...TCP, ...FLANNEL, ...AT_LEAST, ratio: 20 },
  { title: 'CPU for a gigabyte', ...TCP, figure: 'machineSecondsPerGB', ...VXLAN, ...AT_MOST, ratio: 1.7 },
  { title: 'TCP, like a wire', ...TCP, place: place('tcp', 'wire'), ...VXLAN, ...AT_LEAST, ratio: 1 },
  { title: 'TCP, like a wire, no GRO', ...TCP, place: place('tcp', 'wire-no-gro'), ...VXLAN, ...AT_LEAST, ratio: 0.9 },
  { title: 'UDP flood, 64 bytes', ...UDP, place: place('udp-64'), ...VXLAN, ...AT_LEAST, ratio: 2 },
  { title: 'UDP flood, 64 bytes', ...UDP, place: place('udp-64'), ...FLANNEL, ...AT_LEAST, ratio: 7 },
  { title: 'UDP flood, 64 bytes, 64 flows', ...UDP, place: place('udp-64-flows'), ...VXLAN, ...AT_LEAST, ratio: 1.5 },
  { title: 'UDP flood, 1,400 bytes', ...UDP, place: place('udp-1400'), ...VXLAN, ...AT_LEAST, ratio: 1 },
  {
    title: 'Round trip, idle, median',
    figure: 'medianMicroseconds',
    place: place('latency-idle'),
    ...FLANNEL,
    ...AT_MOST,
    ratio: 1,
  },
  {
    title: 'Round trip beside a TCP stream, 99 of 100',
    figure: 'p99Microseconds',
    place: place('latency-loaded'),
    ...VXLAN,
    ...AT_MOST,
    ratio: 3,
  },
  {
    title: 'TCP, several streams each way',
    figure: 'gbits',
    place: place('tcp-both'),
    base: { measure: 'tcp' },
    of: 'one stream',
    ...AT_LEAST,
    ratio: 0.8,
  },
  {
    title: 'UDP, 1,000 flows to 250 subnets',
    ...UDP,
    place: place('subnets-250'),
    base: { measure: 'subnets-1' },
    of: 'one flow',
    ...AT_LEAST,
    ratio: 0.8,
  },
  ...rung('4.18', 5, 'without UDP offloads (before Linux 4.18)'),
  ...rung('2.6.33', 4, 'nor sendmmsg and recvmmsg (before 2.6.33)'),
  ...rung('2.6.27', 2, 'nor any TUN offload (before 2.6.27)'),
];

function rung(kernel: string, ratio: number, title: string): Goal[] {
  const contender = `flannelette-before-${kernel}`;
  return [
    { ...TCP, title: `TCP, ${title}`, place: place('tcp', 'offloads', contender), ...FLANNEL, ...AT_LEAST, ratio },
  ];
}

/** The goals of which the results tell anything. */
export function goalTable(results: Results): ReportTable {
  const rows = GOALS.flatMap((goal) => {
    const spread = ratioAt(results.samples, goal.place, goal.base, goal.figure);
    if (spread === undefined) return [];
    const met = goal.relation === 'at least' ? spread.median >= goal.ratio : spread.median <= goal.ratio;
    const wanted = `${goal.relation} ${formatRatio(goal.ratio)} ${goal.of}`;
    return [[goal.title, wanted, formatRatio(spread.median), formatRatioRange(spread), met ? 'yes' : 'no']];
  });
  return {
    title: 'Goals',
    columns: [
      { title: 'what' },
      { title: 'goal' },
      { title: 'median', align: 'right' },
      { title: 'range', align: 'right' },
      { title: 'met' },
    ],
    rows,
  };
}
