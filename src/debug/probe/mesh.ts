/** Every node with every node: each agent measures its own ways to the others, and one gathers the rows. */
import { setTimeout as sleep } from 'node:timers/promises';
import { childAbort } from '../../child-abort.js';
import { errorMessage, FlannelError } from '../../errors.js';
import type { MeshNode, MeshPeer, MeshProbeAnswer } from '../../observe/probe-protocol.js';
import { formatIpv4, formatPrefix } from '../../packet/address.js';
import type { PostedCall } from '../../subnet/probe-board.js';
import { MAX_MESH_NODES, measureRow, meshLeases, parseRow } from './mesh-row.js';
import { formatCall } from './probe-call.js';
import type { ProbeNode, ProbePlace } from './probe-node.js';
import { parsePresence } from './sighting.js';

/** How long the store may take to put a call up. */
export const STORE_TIMEOUT_MS = 3000;
/** Agents that take part say so within this time. */
const PRESENCE_MS = 4000;
const POLL_MS = 20;
const SPARE_SECONDS = 10;

/**
 * Measures the mesh.
 * Without etcd there is only this node's own row.
 * @throws FlannelError `STORE` when the store has no place for probes; `HOST` when raw sockets are not to be had
 */
export async function probeMesh(
  node: ProbeNode,
  place: ProbePlace,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<MeshProbeAnswer> {
  const { board } = node;
  if (board === undefined) throw new FlannelError('STORE', 'this store has no place for probes');
  const leases = meshLeases(node.leases());
  const here = formatIpv4(place.publicIp);
  const nodes = leases.map(({ publicIp, subnet }) => ({ node: formatIpv4(publicIp), subnet: formatPrefix(subnet) }));
  const rows = new Map<string, readonly MeshPeer[]>();
  const present = new Set([here]);
  const over = childAbort(signal);
  const seconds = Math.ceil(timeoutMs / 1000) + SPARE_SECONDS;
  let posted: PostedCall | undefined;
  let trouble: string | undefined;
  try {
    const limit = childAbort(signal, STORE_TIMEOUT_MS);
    const call = formatCall({ kind: 'mesh', node: place.publicIp, timeoutMs });
    posted = await board
      .call(call, seconds, limit.signal)
      .catch((error: unknown) => {
        signal.throwIfAborted();
        trouble = errorMessage(error);
        return undefined;
      })
      .finally(() => limit.abort());
    posted
      ?.watchReports(({ node: from, name, text }) => {
        if (!nodes.some((one) => one.node === from)) return;
        if (name === 'here' && parsePresence(text) !== undefined) present.add(from);
        const row = name === 'row' ? parseRow(text) : undefined;
        if (row !== undefined && from !== here) rows.set(from, row);
      }, over.signal)
      .catch((error: unknown) => (trouble = errorMessage(error)));
    const startedAtMs = performance.now();
    const own = measureRow(node, place, timeoutMs);
    const waitMs = (): number => performance.now() - startedAtMs;
    const everybody = (some: Iterable<string>): boolean => [...some].every((one) => one === here || rows.has(one));
    const allNodes = nodes.map((one) => one.node);
    rows.set(here, await own);
    while (!everybody(waitMs() < PRESENCE_MS ? allNodes : present) && waitMs() < timeoutMs && trouble === undefined) {
      await sleep(POLL_MS, undefined, { signal });
    }
  } finally {
    over.abort();
    await posted?.end();
  }
  const answered = nodes.map((one): MeshNode => {
    const peers = rows.get(one.node)?.filter((peer) => nodes.some(({ subnet }) => subnet === peer.subnet));
    return { ...one, reports: peers !== undefined, peers: peers ?? [] };
  });
  return { reached: allReached(answered), nodes: answered, notes: meshNotes(node, answered, trouble) };
}

/** Whether every two nodes reached each other, by the word of one of them at least, and of none to the contrary. */
export function allReached(nodes: readonly MeshNode[]): boolean {
  const measured = (from: MeshNode, to: MeshNode): MeshPeer | undefined =>
    from.peers.find(({ subnet }) => subnet === to.subnet);
  return nodes.every((one, index) =>
    nodes.slice(index + 1).every((other) => {
      if (one.node === other.node) return true;
      const words = [measured(one, other), measured(other, one)].filter((word) => word !== undefined);
      return words.length > 0 && words.every(({ answered }) => answered > 0);
    }),
  );
}

function meshNotes(node: ProbeNode, nodes: readonly MeshNode[], trouble: string | undefined): string[] {
  const silent = nodes.filter(({ reports }) => !reports).map((one) => one.node);
  const all = node.leases().length;
  const hurried = nodes.filter(
    ({ node: from, reports, peers }) => reports && peers.length < nodes.filter((one) => one.node !== from).length,
  );
  return [
    ...(all > MAX_MESH_NODES ? [`of ${all} nodes the first ${MAX_MESH_NODES} were measured`] : []),
    ...(hurried.length === 0
      ? []
      : [`not every way from ${hurried.map((one) => one.node).join(', ')} was measured: a longer --timeout may help`]),
    ...(trouble === undefined ? [] : [`other nodes cannot be asked, for etcd is away: ${trouble}`]),
    ...(silent.length === 0
      ? []
      : [
          `no row of ${silent.join(', ')}: a flannel, an agent of another release, or one that is down or away from etcd`,
        ]),
  ];
}
