/** What counts packets on the way of a flood: the agents, the queue of the tunnel's socket, and the devices. */
import { readFileSync } from 'node:fs';
import { sumSocketDrops } from '../../src/host/queue-drops.js';
import type { Namespace } from '../../src/lab/namespace.js';
import { parseIpv4 } from '../../src/packet/address.js';
import type { DirectionCounters } from '../../src/dataplane/counters.js';
import type { Cluster, ClusterNode } from '../harness/cluster.js';

const PORT = 8285;

/** All counters at one moment, or what they grew by between two. */
export interface Counts {
  /** Of the node under attack. */
  readonly decap: DirectionCounters;
  readonly encap: DirectionCounters;
  /** Datagrams that the other node sent to it. */
  readonly fromPeer: number;
  /** Datagrams that its socket had no room for. */
  readonly socketDrops: number;
  /** Packets that the devices between sender and socket had no room for. */
  readonly deviceDrops: number;
  /** Packets that the agent read from flannel0, and those that its queue had no room for. */
  readonly tunRead: number;
  readonly tunDrops: number;
  /** Packets that the IP layer of the node under attack would not take or forward. */
  readonly ipRefused: number;
}

/** Reads all counters. */
export async function readCounts(cluster: Cluster, victim: ClusterNode, peer: ClusterNode): Promise<Counts> {
  const [backend, peerBackend] = await Promise.all(
    [victim, peer].map(async ({ running }) => {
      const { backend } = await running.status();
      if (backend === undefined) throw new Error(`no backend runs\n${running.evidence}`);
      return backend;
    }),
  );
  const devices: readonly (readonly [Namespace, string])[] = [
    [cluster.stranger, 'eth0'],
    [peer.namespace, 'eth0'],
    [cluster.underlay, victim.name],
  ];
  const [drops, tunRead, tunDrops] = await Promise.all([
    Promise.all(devices.map(([namespace, device]) => deviceStatistic(namespace, device, 'tx_dropped'))),
    deviceStatistic(victim.namespace, backend.device, 'tx_packets'),
    deviceStatistic(victim.namespace, backend.device, 'tx_dropped'),
  ]);
  const { decap, encap } = backend;
  return {
    decap: { packets: decap.packets, bytes: decap.bytes, dropped: decap.dropped },
    encap: { packets: encap.packets, bytes: encap.bytes, dropped: encap.dropped },
    fromPeer: peerBackend.encap.packets,
    socketDrops: socketDrops(victim),
    deviceDrops: drops.reduce((sum, some) => sum + some, 0),
    tunRead,
    tunDrops,
    ipRefused: ipRefused(victim),
  };
}

/** What `later` has more than `earlier`. */
export function growth(earlier: Counts, later: Counts): Counts {
  const less = (key: Exclude<keyof Counts, 'decap' | 'encap'>): number => later[key] - earlier[key];
  return {
    decap: directionGrowth(earlier.decap, later.decap),
    encap: directionGrowth(earlier.encap, later.encap),
    fromPeer: less('fromPeer'),
    socketDrops: less('socketDrops'),
    deviceDrops: less('deviceDrops'),
    tunRead: less('tunRead'),
    tunDrops: less('tunDrops'),
    ipRefused: less('ipRefused'),
  };
}

/** What a direction has counted between two moments. */
export function directionGrowth(earlier: DirectionCounters, later: DirectionCounters): DirectionCounters {
  const dropped = Object.entries(later.dropped)
    .map(([reason, packets]) => [reason, packets - (earlier.dropped[reason] ?? 0)] as const)
    .filter(([, packets]) => packets > 0);
  return {
    packets: later.packets - earlier.packets,
    bytes: later.bytes - earlier.bytes,
    dropped: Object.fromEntries(dropped),
  };
}

/** Everything that a direction has counted: what went on, and what was dropped. */
export function countedPackets({ packets, dropped }: DirectionCounters): number {
  return Object.values(dropped).reduce((sum, some) => sum + some, packets);
}

/** Resident memory of a process, in KiB. */
export function residentKib(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0);
}

async function deviceStatistic(namespace: Namespace, device: string, name: string): Promise<number> {
  const { stdout } = await namespace.exec('cat', [`/sys/class/net/${device}/statistics/${name}`]);
  return Number(stdout);
}

/** A process's `/proc/PID/net` is that of its namespace, whoever reads it. */
function socketDrops({ running, address }: ClusterNode): number {
  const parsed = parseIpv4(address);
  if (parsed === undefined) throw new Error(`no address: ${address}`);
  return sumSocketDrops(readFileSync(`/proc/${running.pid}/net/udp`, 'latin1'), parsed, PORT);
}

function ipRefused({ running }: ClusterNode): number {
  const [names, values] = readFileSync(`/proc/${running.pid}/net/snmp`, 'latin1')
    .split('\n')
    .filter((line) => line.startsWith('Ip: '))
    .map((line) => line.split(' '));
  return ['InHdrErrors', 'InAddrErrors', 'InDiscards', 'OutNoRoutes']
    .map((name) => Number(values[names.indexOf(name)] ?? 0))
    .reduce((sum, some) => sum + some, 0);
}
