/**
 * Where every packet went, by the counters that it passes. Each leg of the way has those of the kernel, or of the programs
 * that send, at both ends, so that what goes on after it and what is lost on it must add up to what came:
 *
 *     programs ─► pod's eth0 ─► host ─► flannel0 ═► agent ═► underlay ─► socket ═► agent ═► flannel0 ─► host ─► pod ─► programs
 *        └─ sending ─┘└───── hosts ────┘└───── encap ─────┘└─ underlay ─┘└───── decap ─────┘└──── hosts ────┘└ receiving ┘
 *
 * What an agent has in its hands when it is killed, or a worker of it crashes, nobody can count any more. It is measured: what the kernel gave to the
 * agents of that node, less what they gave back to the kernel, less what they were last known to have dropped.
 */
import { DECAP_BATCH_PACKETS, ENCAP_BATCH_PACKETS } from '../../src/dataplane/descriptors.js';
import type { DirectionCounters } from '../../src/dataplane/counters.js';
import type { AgentCounts } from './ledger.js';
import { sumOf, sumOfDevices, type Tally } from './tally.js';

/** What was counted on one node and in its pods, from the beginning to the end. */
export interface NodeMeasures {
  readonly name: string;
  readonly host: Tally;
  readonly pods: readonly Tally[];
  readonly agent: AgentCounts;
  /** Times that packets in hand were lost with what held them: its agent was killed, or its workers crashed. */
  readonly interruptions: number;
}

export interface Measures {
  readonly nodes: readonly NodeMeasures[];
  readonly underlay: Tally;
  /** Datagrams of the programs in the pods: sent, and received, those that came twice twice. */
  readonly programs: { readonly sent: number; readonly received: number };
  /** What devices were told to drop that belonged to no tunnel, by node: while a cable was out. */
  readonly unpluggedDrops: Readonly<Record<string, number>>;
}

/** So many packets, and what they are or what became of them. */
export interface Row {
  readonly what: string;
  readonly packets: number;
}

/** One leg, on one node or (`-`) in the network. */
export interface Leg {
  readonly name: 'sending' | 'hosts' | 'encap' | 'underlay' | 'decap' | 'receiving' | 'own count out' | 'own count in';
  readonly node: string;
  readonly came: number;
  readonly wentOn: number;
  /** What was lost on it, by reason; reasons without a packet are left out. */
  readonly lost: readonly Row[];
  /** `came` less everything else: 0. */
  readonly missing: number;
}

export interface SoakAccount {
  readonly legs: readonly Leg[];
  /** Packets that set out, and where. */
  readonly sent: readonly Row[];
  /** What became of them. */
  readonly fate: readonly Row[];
  /** Packets that set out less those of which it is known what became of them, and what any leg lacks: 0. */
  readonly missing: number;
}

/**
 * Why the IP layer of a host goes no further with a packet that it forwards. `OutDiscards` is not one: it counts what the
 * host sends itself, as an agent does, who is told.
 */
const REFUSALS = ['InHdrErrors', 'InAddrErrors', 'InUnknownProtos', 'InDiscards', 'OutNoRoutes', 'FragFails'];

export const IN_HAND = 'in hand when an agent was killed, or its workers crashed';
const DEVICE_QUEUE = "no room in flannel0's queue (tx_dropped)";
const SOCKET_QUEUE = "no room in the socket's queue (SO_RXQ_OVFL)";
export const CUT = 'lost on the underlay, by the faults made there';

export function accountFor(measures: Measures): SoakAccount {
  const { nodes, underlay } = measures;
  const legs = [
    sendingLeg(measures),
    ...nodes.map(hostLeg),
    ...nodes.map((node) => encapLeg(node, measures)),
    underlayLeg(measures),
    ...nodes.map(decapLeg),
    receivingLeg(measures),
    ...nodes.filter(({ interruptions }) => interruptions === 0).flatMap((node) => ownCounts(node, underlay)),
  ];
  const pods = nodes.flatMap((node) => node.pods);
  const overlay = legs.filter(({ name }) => ['hosts', 'encap', 'underlay', 'decap'].includes(name));
  const sent = [
    { what: 'by pods', packets: sumOver(pods, 'eth0.txPackets') },
    {
      what: 'by hosts themselves',
      packets: sumOver(
        nodes.map(({ host }) => host),
        'nft.own',
      ),
    },
    { what: "by a stranger, to the tunnel's port", packets: sumOf(underlay, 'nft.sent_stranger') },
  ];
  const fate = [
    { what: 'delivered to pods', packets: sumOver(pods, 'Ip.InReceives') },
    ...merged(overlay.flatMap(({ lost }) => lost)),
  ];
  const total = (rows: readonly Row[]): number => rows.reduce((sum, { packets }) => sum + packets, 0);
  const lacking = legs.reduce((sum, { missing }) => sum + Math.abs(missing), 0);
  return { legs, sent, fate, missing: lacking === 0 ? total(sent) - total(fate) : lacking };
}

/** The kernel counts what TCP sends once more by itself. */
function sendingLeg({ nodes, programs }: Measures): Leg {
  const pods = nodes.flatMap((node) => node.pods);
  const fragments = sumOver(pods, 'Ip.FragCreates') - sumOver(pods, 'Ip.FragOKs');
  return leg(
    'sending',
    '-',
    programs.sent + fragments + sumOver(pods, 'Tcp.OutSegs', 'Tcp.RetransSegs', 'Icmp.OutMsgs'),
    sumOver(pods, 'eth0.txPackets'),
    [{ what: 'no room in a device', packets: sumOver(pods, 'eth0.txDropped') }],
  );
}

function hostLeg({ name, host, pods }: NodeMeasures): Leg {
  return leg(
    'hosts',
    name,
    sumOver(pods, 'eth0.txPackets') + sumOf(host, 'flannel0.rxPackets', 'nft.own'),
    sumOf(host, 'flannel0.txPackets') + sumOver(pods, 'Ip.InReceives'),
    [
      { what: DEVICE_QUEUE, packets: sumOf(host, 'flannel0.txDropped') },
      { what: "refused by a host's IP layer", packets: sumOf(host, ...REFUSALS.map((refusal) => `Ip.${refusal}`)) },
      { what: 'no room in a device', packets: sumOfDevices(host, 'txDropped', ['flannel0', 'eth0']) },
    ],
  );
}

function encapLeg({ name, host, agent, interruptions }: NodeMeasures, { underlay, unpluggedDrops }: Measures): Leg {
  return leg(
    'encap',
    name,
    sumOf(host, 'flannel0.txPackets'),
    sumOf(underlay, `nft.sent_${name}`),
    [
      ...droppedRows('encap', agent.encap),
      { what: 'no room in a device', packets: sumOf(host, 'eth0.txDropped') - (unpluggedDrops[name] ?? 0) },
    ],
    interruptions * ENCAP_BATCH_PACKETS,
  );
}

function underlayLeg({ nodes, underlay }: Measures): Leg {
  const senders = Object.keys(underlay).filter((counter) => counter.startsWith('nft.sent_'));
  return leg(
    'underlay',
    '-',
    sumOf(underlay, ...senders),
    nodes.reduce((sum, { host }) => sum + arrived(host), 0),
    [
      { what: CUT, packets: sumOf(underlay, 'nft.cut') },
      { what: 'no room in a device', packets: sumOfDevices(underlay, 'txDropped') },
    ],
  );
}

function decapLeg({ name, host, agent, interruptions }: NodeMeasures): Leg {
  // The second one is younger than the oldest kernels.
  const noRoom = sumOf(host, 'Udp.RcvbufErrors') + (host['Udp.MemErrors'] ?? 0);
  return leg(
    'decap',
    name,
    arrived(host),
    sumOf(host, 'flannel0.rxPackets'),
    [
      { what: SOCKET_QUEUE, packets: noRoom },
      { what: 'nobody had the port', packets: sumOf(host, 'Udp.NoPorts') },
      { what: 'wrong checksum', packets: sumOf(host, 'Udp.InErrors') - noRoom },
      ...droppedRows('decap', agent.decap),
    ],
    interruptions * DECAP_BATCH_PACKETS,
  );
}

/** Fragments are what arrives, and wholes what programs get. */
function receivingLeg({ nodes, programs }: Measures): Leg {
  const pods = nodes.flatMap((node) => node.pods);
  return leg(
    'receiving',
    '-',
    sumOver(pods, 'Ip.InReceives'),
    programs.received + sumOver(pods, 'Tcp.InSegs', 'Icmp.InMsgs'),
    [
      {
        what: 'fragments, less the datagrams that they made',
        packets: sumOver(pods, 'Ip.ReasmReqds') - sumOver(pods, 'Ip.ReasmOKs'),
      },
      { what: 'came when no program listened', packets: sumOver(pods, 'Udp.NoPorts') },
      { what: "no room in a program's queue", packets: sumOver(pods, 'Udp.InErrors') },
      {
        what: "refused by a pod's IP layer",
        packets: sumOver(pods, 'Ip.InHdrErrors', 'Ip.InAddrErrors', 'Ip.InDiscards'),
      },
    ],
  );
}

/** An agent that was never interrupted has counted what the kernel has. */
function ownCounts({ name, host, agent }: NodeMeasures, underlay: Tally): Leg[] {
  return [
    leg('own count out', name, agent.encap.packets, sumOf(underlay, `nft.sent_${name}`), []),
    leg('own count in', name, agent.decap.packets, sumOf(host, 'flannel0.rxPackets'), []),
  ];
}

/** @param inHands - packets that may have been in hand at interruptions, at most */
function leg(name: Leg['name'], node: string, came: number, wentOn: number, losses: readonly Row[], inHands = 0): Leg {
  const lost = losses.filter(({ packets }) => packets !== 0);
  const rest = came - wentOn - lost.reduce((sum, { packets }) => sum + packets, 0);
  if (rest > 0 && rest <= inHands) {
    return { name, node, came, wentOn, lost: [...lost, { what: IN_HAND, packets: rest }], missing: 0 };
  }
  return { name, node, came, wentOn, lost, missing: rest };
}

/** Datagrams that came to the tunnel's socket. */
function arrived(host: Tally): number {
  return sumOf(host, 'Udp.InDatagrams', 'Udp.InErrors', 'Udp.NoPorts');
}

function droppedRows(direction: string, { dropped }: DirectionCounters): Row[] {
  return Object.entries(dropped).map(([reason, packets]) => ({
    what: `dropped by the agent: ${direction} ${reason}`,
    packets,
  }));
}

function merged(rows: readonly Row[]): Row[] {
  const sums = new Map<string, number>();
  for (const { what, packets } of rows) sums.set(what, (sums.get(what) ?? 0) + packets);
  return [...sums].map(([what, packets]) => ({ what, packets }));
}

function sumOver(tallies: readonly Tally[], ...names: readonly string[]): number {
  return tallies.reduce((sum, tally) => sum + sumOf(tally, ...names), 0);
}
