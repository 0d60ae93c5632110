/**
 * What one node measures of its ways to the others, through the tunnel: from its own overlay device to theirs, as any
 * packet of a pod's goes. Only nodes with a lease are asked, a few at a time.
 */
import { EchoProber, type EchoAnswer } from '../../host/echo-prober.js';
import { median } from '../../median.js';
import type { MeshPeer } from '../../observe/probe-protocol.js';
import { formatIpv4, formatPrefix } from '../../packet/address.js';
import { UDP_OVERHEAD_BYTES } from '../../packet/ipv4.js';
import type { Lease } from '../../subnet/lease.js';
import { searchLargestEcho, TTL_TO_OTHER_AGENT } from '../doctor/probe-peers.js';
import { addressOf, integerOf, parseObject } from './probe-call.js';
import type { ProbeNode, ProbePlace } from './probe-node.js';

/** Nodes of one mesh; of a larger network the first, by their subnets. */
export const MAX_MESH_NODES = 128;

const ECHOES = 10;
const ECHO_GAP_MS = 20;
const SMALL_BYTES = 64;
const TIMEOUT_MS = 1000;
const ATTEMPTS = 3;
const AT_ONCE = 8;
const MAX_ROW_LENGTH = 32 * 1024;
const MAX_LATENCY_MS = 3_600_000;

/** The nodes of a mesh: their leases, by subnet. */
export function meshLeases(leases: readonly Lease[]): readonly Lease[] {
  return [...leases].sort((a, b) => a.subnet.address - b.subnet.address).slice(0, MAX_MESH_NODES);
}

/**
 * Measures the ways from here to every other node, or to as many as the time allows: none is begun after it.
 * @throws FlannelError `HOST` when raw sockets are not to be had
 */
export async function measureRow(node: ProbeNode, place: ProbePlace, timeoutMs: number): Promise<MeshPeer[]> {
  const startedAtMs = performance.now();
  const others = meshLeases(node.leases()).filter(({ publicIp }) => publicIp !== place.publicIp);
  const prober = await EchoProber.open();
  try {
    const row: MeshPeer[] = [];
    const waiting = others.entries();
    const worker = async (): Promise<void> => {
      for (const [index, lease] of waiting) {
        if (performance.now() - startedAtMs >= timeoutMs) return;
        row[index] = await measurePeer(prober, lease, place.deviceMtuBytes);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    return row;
  } finally {
    prober.close();
  }
}

async function measurePeer(prober: EchoProber, lease: Lease, mtuBytes: number): Promise<MeshPeer> {
  const destination = lease.subnet.address;
  const ask = (totalBytes: number, ttl?: number): Promise<EchoAnswer> =>
    prober.echo({ destination, totalBytes, ttl, timeoutMs: TIMEOUT_MS });
  const answers = await Promise.all(
    Array.from({ length: ECHOES }, async (_, index) => {
      await new Promise((resolve) => setTimeout(resolve, index * ECHO_GAP_MS));
      return ask(SMALL_BYTES);
    }),
  );
  const peer = { node: formatIpv4(lease.publicIp), subnet: formatPrefix(lease.subnet) };
  const times = answers.flatMap((answer) => (answer.kind === 'reply' ? [answer.roundTripMs] : []));
  if (times.length === 0) return { ...peer, ...(await askOtherAgent(ask)) };
  const largest = await largestThrough(ask, prober, destination, mtuBytes);
  return {
    ...peer,
    sent: ECHOES,
    answered: times.length,
    latencyMs: medianMs(times),
    pathMtuBytes: largest === undefined ? null : largest + UDP_OVERHEAD_BYTES,
  };
}

/** A host that answers no echo requests may have an agent that says when a TTL runs out. */
async function askOtherAgent(
  ask: (totalBytes: number, ttl?: number) => Promise<EchoAnswer>,
): Promise<Pick<MeshPeer, 'sent' | 'answered' | 'latencyMs' | 'pathMtuBytes'>> {
  const times: number[] = [];
  for (let sent = 1; sent <= ATTEMPTS; sent++) {
    const startedAtMs = performance.now();
    const { kind } = await ask(SMALL_BYTES, TTL_TO_OTHER_AGENT);
    if (kind === 'time-exceeded') times.push(performance.now() - startedAtMs);
  }
  return {
    sent: times.length === 0 ? ECHOES : ATTEMPTS,
    answered: times.length,
    latencyMs: times.length === 0 ? null : medianMs(times),
    pathMtuBytes: null,
  };
}

/** The largest echo request that is answered: that of the overlay's MTU, or less. */
async function largestThrough(
  ask: (totalBytes: number) => Promise<EchoAnswer>,
  prober: EchoProber,
  destination: number,
  mtuBytes: number,
): Promise<number | undefined> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    if ((await ask(mtuBytes)).kind === 'reply') return mtuBytes;
  }
  return searchLargestEcho(prober, destination, mtuBytes);
}

/** The median of at least one time, to the microsecond. */
export function medianMs(times: readonly number[]): number {
  return Math.round(median(times) * 1000) / 1000;
}

/** As it stands on the board; {@link parseRow} reads it. */
export function formatRow(peers: readonly MeshPeer[]): string {
  return JSON.stringify({ peers });
}

/** `undefined` for what is no row; never throws. */
export function parseRow(text: string): MeshPeer[] | undefined {
  const peers: unknown = parseObject(text, MAX_ROW_LENGTH)?.peers;
  if (!Array.isArray(peers) || peers.length > MAX_MESH_NODES) return undefined;
  const read = peers.map(parsePeer);
  return read.includes(undefined) ? undefined : (read as MeshPeer[]);
}

function parsePeer(value: unknown): MeshPeer | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { node, subnet, sent, answered, latencyMs, pathMtuBytes } = value as Record<string, unknown>;
  if (addressOf(node) === undefined || typeof subnet !== 'string' || !/^[0-9./]{9,18}$/.test(subnet)) return undefined;
  const counted = integerOf(sent, 1, 1000);
  const replies = integerOf(answered, 0, counted ?? 0);
  const time = latencyMs === null || (typeof latencyMs === 'number' && latencyMs >= 0 && latencyMs <= MAX_LATENCY_MS);
  const mtu = pathMtuBytes === null || integerOf(pathMtuBytes, 0, 0xffff) !== undefined;
  if (counted === undefined || replies === undefined || !time || !mtu) return undefined;
  return { node, subnet, sent, answered, latencyMs, pathMtuBytes } as MeshPeer;
}
