import type { BackendStatus, DirectionCounters } from '../backend/status.js';
import { DROP_REASONS } from '../dataplane/drop-reasons.js';
import type { LeaseAnswer, StatusAnswer, StoreHealth } from '../observe/control-protocol.js';
import type { Paint } from './paint.js';
import { formatFacts, formatTable } from './table.js';
import { wordBytes, wordCount, wordDuration, wordMoment, wordPlural } from './wording.js';

type Fact = readonly [name: string, value: string | readonly string[]];

/** What each state of start-up waits for, in the words of `flannelctl status`. */
const STATES: Readonly<Record<StatusAnswer['state'], string>> = {
  configuration: 'waiting for the network configuration',
  interface: 'looking for the external interface',
  lease: 'waiting for a subnet',
  backend: 'starting the backend',
  ready: 'ready',
  stopping: 'stopping',
};

/** `flannelctl status` for people, a line an element. `nowMs` is the time it is told at, since the epoch. */
export function statusReport(status: StatusAnswer, paint: Paint, nowMs: number): string[] {
  const { backend } = status;
  const lines = formatFacts([...agentFacts(status, paint, nowMs), ...storeFacts(status.store, paint, nowMs)]);
  if (backend === undefined) return lines;
  return [...lines, '', ...trafficTable(backend, paint), '', ...workerTable(backend, paint), ...drops(backend, paint)];
}

function agentFacts(status: StatusAnswer, paint: Paint, nowMs: number): Fact[] {
  const { network, lease, interface: external, backend, publicIP } = status;
  const facts: Fact[] = [];
  const uptime = nowMs - Date.parse(status.startedAt);
  facts.push(['Agent', `flanneld ${status.version}, pid ${status.pid}, up ${wordDuration(uptime)}`]);
  // An agent that began by the last run's snapshot, or needs another subnet, carries packets while it waits for the store.
  const meanwhile = status.state === 'configuration' && backend !== undefined ? '; packets flow meanwhile' : '';
  const state = `${STATES[status.state] ?? status.state}${meanwhile}`;
  facts.push(['State', status.state === 'ready' ? paint.good(state) : paint.warning(state)]);
  if (status.reason !== undefined) facts.push(['Reason', paint.bad(status.reason)]);
  for (const { message, remedy } of status.concerns ?? []) {
    facts.push(['Concern', [paint.warning(message), `→ ${remedy}`]]);
  }
  if (network !== undefined) {
    facts.push(['Network', `${network.cidr}, a /${network.subnetLength} for each node, backend ${network.backend}`]);
  }
  if (lease !== undefined) facts.push(['Lease', leaseFact(lease, nowMs)]);
  if (external !== undefined) {
    const elsewhere = publicIP !== undefined && publicIP !== external.address ? `, public IP ${publicIP}` : '';
    facts.push(['Interface', `${external.name} ${external.address}, MTU ${external.mtu}${elsewhere}`]);
  }
  if (backend !== undefined) {
    facts.push(['Device', `${backend.device}, MTU ${backend.mtuBytes}, ${backend.type} on port ${backend.port}`]);
    const { leases, nextHops, memoryBytes } = backend.table;
    const table = [
      `${wordPlural(leases, 'lease')} of other nodes`,
      wordPlural(nextHops, 'next hop'),
      wordBytes(memoryBytes),
    ];
    facts.push(['Table', table.join(', ')]);
    if (backend.offloads.length > 0) facts.push(['Offloads', offloadLines(backend.offloads)]);
  }
  facts.push(['Subnet file', status.subnetFile]);
  return facts;
}

/** What is in use, and a line for each that is not, or not everywhere. */
function offloadLines(offloads: BackendStatus['offloads']): string[] {
  const used = offloads.filter(({ state }) => state === 'on').map(({ name }) => name);
  const remarks = offloads
    .filter(({ reason }) => reason !== undefined)
    .map(({ name, state, reason }) => `${state === 'on' ? name : `no ${name}`}: ${reason}`);
  return [used.length === 0 ? 'none' : used.join(', '), ...remarks];
}

function leaseFact(lease: LeaseAnswer, nowMs: number): string {
  if (lease.reserved) return `${lease.subnet}, reserved: it never expires`;
  if (lease.expires === null) return `${lease.subnet}, expiry not known`;
  return `${lease.subnet}, expires ${wordMoment(lease.expires, nowMs)} (${lease.expires})`;
}

function storeFacts(store: StoreHealth, paint: Paint, nowMs: number): Fact[] {
  const health = store.healthy ? paint.good('healthy') : paint.bad('unreachable');
  const contact =
    store.lastContactAt === undefined ? 'never answered' : `last answer ${wordMoment(store.lastContactAt, nowMs)}`;
  const lines = [
    `${health}, ${contact}`,
    `${store.endpoints.join(',')} under ${store.prefix}`,
    `${wordPlural(store.watchRestarts, 'watch restart')}, ` +
      `${wordCount(store.skippedEntries)} bad ${store.skippedEntries === 1 ? 'entry' : 'entries'} skipped`,
  ];
  if (store.lastError !== undefined) lines.push(`${store.healthy ? 'last error' : 'error'}: ${store.lastError}`);
  return [['Store', lines]];
}

function trafficTable(backend: BackendStatus, paint: Paint): string[] {
  const row = (name: string, counters: DirectionCounters): string[] => [
    name,
    wordCount(counters.packets),
    wordBytes(counters.bytes),
    wordCount(droppedInAll(counters)),
  ];
  return formatTable(
    [
      { title: 'DIRECTION' },
      { title: 'PACKETS', align: 'right' },
      { title: 'BYTES', align: 'right' },
      { title: 'DROPPED', align: 'right' },
    ],
    [row('encap (pods to underlay)', backend.encap), row('decap (underlay to pods)', backend.decap)],
    paint,
    (_row, column, text) => (column === 3 && text !== '0' ? paint.warning(text) : text),
  );
}

function workerTable(backend: BackendStatus, paint: Paint): string[] {
  return formatTable(
    [{ title: 'WORKER' }, { title: 'DIRECTION' }, { title: 'STATE' }, { title: 'BATCHES', align: 'right' }],
    backend.workers.map(({ name, direction, state, batches }) => [name, direction, state, wordCount(batches)]),
    paint,
    (_row, column, text) => {
      if (column !== 2) return text;
      if (text === 'failed' || text === 'stopped' || text === 'restarting') return paint.bad(text);
      return text === 'running' ? paint.good(text) : text;
    },
  );
}

function drops(backend: BackendStatus, paint: Paint): string[] {
  const rows = (['encap', 'decap'] as const).flatMap((direction) =>
    Object.entries(backend[direction].dropped)
      .filter(([, count]) => count > 0)
      .sort(([, a], [, b]) => b - a)
      .map(([reason, count]) => [direction, reason, wordCount(count), describeReason(reason)]),
  );
  const lines: string[] = [];
  if (rows.length > 0) {
    const columns = [
      { title: 'DROPPED' },
      { title: 'REASON' },
      { title: 'PACKETS', align: 'right' as const },
      { title: 'WHAT IT MEANS' },
    ];
    lines.push('', ...formatTable(columns, rows, paint));
  }
  const { icmpErrorsSent, icmpErrorsRateLimited } = backend;
  if (icmpErrorsSent + icmpErrorsRateLimited > 0) {
    const held = `${wordCount(icmpErrorsRateLimited)} held back by the rate limit`;
    lines.push('', `ICMP errors: ${wordCount(icmpErrorsSent)} sent to sources, ${held}`);
  }
  return lines;
}

function describeReason(name: string): string {
  return DROP_REASONS.find((info) => info.name === name)?.description ?? 'not known to this flannelctl';
}

function droppedInAll(counters: DirectionCounters): number {
  return Object.values(counters.dropped).reduce((sum, count) => sum + count, 0);
}
