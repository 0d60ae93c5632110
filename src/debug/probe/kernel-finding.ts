import { runIpJson } from '../../host/interfaces.js';
import { formatIpv4 } from '../../packet/address.js';
import { errorMessage } from '../../errors.js';
import { explainPacket } from '../explain/explain.js';
import { ThisHost } from '../explain/host-view.js';
import type { PacketSpec } from '../explain/packet-spec.js';
import type { ProbeNode } from './probe-node.js';
import type { KernelFinding } from './sighting.js';

/** What `ip neigh` says of an address that nobody answers for. */
const SILENT_STATES: ReadonlySet<string> = new Set(['FAILED', 'INCOMPLETE']);

interface IpNeighbour {
  readonly dev?: string;
  readonly state?: readonly string[];
}

/** Finds out by this host's routes, rules and neighbours what becomes of a packet outside of the dataplane. Never rejects. */
export async function findInKernel(spec: PacketSpec, node: ProbeNode): Promise<KernelFinding> {
  try {
    const explanation = await explainPacket(spec, node.explainer, new ThisHost());
    if (explanation.verdict === 'dropped') {
      const fact = explanation.steps.find(({ outcome }) => outcome === 'drop')?.fact ?? '';
      return { reason: explanation.reason, fact };
    }
    const silent = await silentNeighbour(spec.destination);
    if (silent !== undefined) return silent;
    const unsure = explanation.steps.find(({ outcome }) => outcome === 'unsure');
    return { reason: null, fact: unsure === undefined ? 'no route or rule of this host is in its way' : unsure.fact };
  } catch (error) {
    return { reason: null, fact: `this host could not be asked: ${errorMessage(error)}` };
  }
}

async function silentNeighbour(address: number): Promise<KernelFinding | undefined> {
  const shown = await runIpJson<IpNeighbour>(['-4', 'neigh', 'show', 'to', formatIpv4(address)]);
  const silent = shown.find(({ state = [] }) => state.some((name) => SILENT_STATES.has(name)));
  if (silent === undefined) return undefined;
  return {
    reason: 'no-neighbour',
    fact: `nobody on ${silent.dev ?? 'this host'} answers to ${formatIpv4(address)} (ARP)`,
  };
}
