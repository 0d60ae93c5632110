/** Gathers what the checks stand on: from the agent, from this host, from the other nodes and from the store. */
import { runCommand, type RunCommand } from '../../host/command.js';
import { EchoProber } from '../../host/echo-prober.js';
import { readFilterRuleset } from '../../host/firewall/read-ruleset.js';
import { listInterfaces } from '../../host/interfaces.js';
import { localAddresses } from '../../host/local-addresses.js';
import { readQueueDrops, type QueueDrops } from '../../host/queue-drops.js';
import { listPolicyRules } from '../../host/route-lookup.js';
import { listRoutes } from '../../host/routes.js';
import { readReversePathFilter, readSysctl } from '../../host/sysctl.js';
import type { LeaseAnswer, StatusAnswer } from '../../observe/control-protocol.js';
import { parseIpv4, parsePrefix } from '../../packet/address.js';
import { UDP_OVERHEAD_BYTES } from '../../packet/ipv4.js';
import type { EtcdOptions } from '../../subnet/etcd/options.js';
import { readSubnetEnv } from '../../subnet/subnet-env.js';
import { findOut, type Fact } from './check.js';
import type { NodeFacts, QueueFacts } from './facts.js';
import { probePeers, type Peer, type PeerFacts } from './probe-peers.js';
import { probeStore } from './probe-store.js';

export interface GatherOptions {
  readonly agent: { status(): Promise<StatusAnswer>; leases(): Promise<readonly LeaseAnswer[]> };
  /** How etcd is reached; an agent that runs knows better where it is. */
  readonly etcd: (status: StatusAnswer | undefined) => EtcdOptions;
  /** Other nodes that are asked, at most; which ones is left to chance. */
  readonly maxPeers: number;
  readonly run?: RunCommand;
}

/** Looks at everything, once. Never rejects: what cannot be found out is a fact of its own. */
export async function gatherFacts({ agent, etcd, maxPeers, run = runCommand }: GatherOptions): Promise<NodeFacts> {
  const [status, leases] = await Promise.all([findOut(() => agent.status()), findOut(() => agent.leases())]);
  const known = status.known ? status.value : undefined;
  const before = await findOut(() => queueDrops(known));
  const [interfaces, routes, policyRules, filterRules, subnetFile, forwarding, peers, store] = await Promise.all([
    findOut(() => listInterfaces(run)),
    findOut(() => listRoutes(run)),
    findOut(() => listPolicyRules(run)),
    findOut(() => readFilterRuleset(run)),
    findOut(() => readSubnetEnv(known?.subnetFile ?? '/run/flannel/subnet.env')),
    findOut(async () => (await readSysctl('net.ipv4.ip_forward')) !== '0'),
    findOut(() => askPeers(known, leases, maxPeers)),
    findOut(() => probeStore(etcd(known))),
  ]);
  const after = await findOut(() => queueDrops(known));
  return {
    nowMs: Date.now(),
    status,
    leases,
    interfaces,
    routes,
    policyRules,
    filterRules,
    subnetFile,
    forwarding,
    reversePathFilters: await findOut(() => reversePathFilters(known)),
    queues: before.known && after.known ? { known: true, value: compare(before.value, after.value) } : after,
    peers,
    store,
  };
}

async function queueDrops(status: StatusAnswer | undefined): Promise<QueueFacts> {
  const { backend, interface: external } = status ?? {};
  if (backend === undefined || external === undefined) throw new Error('no dataplane runs');
  const { device, port } = backend;
  const drops = await readQueueDrops({ device, port, address: parseIpv4(external.address) ?? 0 });
  return { ...drops, dropsWhileLooking: 0 };
}

function compare(before: QueueDrops, after: QueueDrops): QueueFacts {
  const { socketDrops, deviceDrops } = after;
  return {
    socketDrops,
    deviceDrops,
    dropsWhileLooking: socketDrops + deviceDrops - before.socketDrops - before.deviceDrops,
  };
}

async function reversePathFilters(status: StatusAnswer | undefined): Promise<ReadonlyMap<string, number>> {
  const { backend, interface: external } = status ?? {};
  if (backend === undefined || external === undefined) throw new Error('no dataplane runs');
  const devices = [backend.device, external.name];
  const modes = await Promise.all(devices.map(readReversePathFilter));
  return new Map(devices.map((device, index) => [device, modes[index]]));
}

async function askPeers(
  status: StatusAnswer | undefined,
  leases: Fact<readonly LeaseAnswer[]>,
  maxPeers: number,
): Promise<PeerFacts[]> {
  const { backend } = status ?? {};
  if (backend === undefined || !leases.known) throw new Error('no dataplane runs');
  // A subnet that was taken away from this node still leads to this node.
  const here = new Set(await localAddresses());
  const others = leases.value
    .filter((lease) => !lease.own && lease.backendType === backend.type)
    .map(peerOf)
    .filter(({ address, overlayAddress }) => !here.has(address) && !here.has(overlayAddress));
  const prober = await EchoProber.open();
  try {
    const largeBytes = backend.mtuBytes + UDP_OVERHEAD_BYTES;
    return await probePeers(sample(others, maxPeers), { prober, largeBytes, port: backend.port });
  } finally {
    prober.close();
  }
}

function peerOf({ publicIP, subnet }: LeaseAnswer): Peer {
  return { address: parseIpv4(publicIP) ?? 0, subnet, overlayAddress: parsePrefix(subnet)?.address ?? 0 };
}

/** Some of the nodes, in their order. */
function sample(peers: readonly Peer[], count: number): readonly Peer[] {
  if (peers.length <= count) return peers;
  const chosen = new Set<number>();
  while (chosen.size < count) chosen.add(Math.floor(Math.random() * peers.length));
  return [...chosen].sort((a, b) => a - b).map((index) => peers[index]);
}
