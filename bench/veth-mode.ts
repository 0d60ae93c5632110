/**
 * What the cable between the nodes can do. A veth pair hands over super-packets of 64 KB that no wire carries; with its
 * segmentation offloads off, frames of the MTU cross it, as they cross a network card's wire.
 */
import type { Namespace } from '../src/lab/namespace.js';
import type { ModeDescription } from './results.js';

export interface VethMode {
  readonly name: string;
  readonly title: string;
  /** Arguments of `ethtool -K eth0`. */
  readonly features: Readonly<Record<string, 'on' | 'off'>>;
}

const SEGMENTATION = ['tso', 'gso', 'tx-udp-segmentation', 'tx-udp_tnl-segmentation'] as const;

function features(segmentation: 'on' | 'off', gro: 'on' | 'off'): VethMode['features'] {
  return { ...Object.fromEntries(SEGMENTATION.map((name) => [name, segmentation])), gro };
}

export const VETH_MODES: readonly VethMode[] = [
  { name: 'offloads', title: 'offloads of the veth on, as it comes', features: features('on', 'off') },
  { name: 'wire', title: 'like a wire: no segmentation offloads, GRO on', features: features('off', 'on') },
  { name: 'wire-no-gro', title: 'like a wire, and no GRO', features: features('off', 'off') },
];

/** Long names of what `ethtool -k` prints, by the short ones that `ethtool -K` takes. */
const SHOWN: Readonly<Record<string, string>> = {
  tso: 'tcp-segmentation-offload',
  gso: 'generic-segmentation-offload',
  gro: 'generic-receive-offload',
};

/** Sets eth0 of a node. @throws CommandError where this kernel's veth has not got a feature */
export async function applyMode(node: Namespace, mode: VethMode): Promise<void> {
  await node.exec('ethtool', ['-K', 'eth0', ...Object.entries(mode.features).flat()]);
}

/** What ethtool says of eth0 now. */
export async function describeMode(node: Namespace, mode: VethMode): Promise<ModeDescription> {
  const { stdout } = await node.exec('ethtool', ['-k', 'eth0']);
  const state = (name: string): string =>
    new RegExp(`^\\s*${SHOWN[name] ?? name}: (\\S+)`, 'm').exec(stdout)?.[1] ?? '?';
  const offloads = Object.fromEntries(Object.keys(mode.features).map((name) => [name, state(name)]));
  return { name: mode.name, title: mode.title, offloads };
}
