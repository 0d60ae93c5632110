/**
 * A lab on paper: every name and address, decided before anything is built, so that building, drawing and taking down
 * all speak of the same things.
 *
 * ```
 *   outside 203.0.113.10            etcd .2
 *            │ eth0 .1                │
 *   ─────────┴──────── underlay 192.168.64.0/24 ───────────┐
 *        │ eth0 .11                                        │ eth0 .12
 *   node1: flannel0 10.244.0.0/32                     node2: flannel0 10.244.1.0/32
 *          cni0     10.244.0.1/24                            cni0     10.244.1.1/24
 *           ├─ pod1a 10.244.0.2                               ├─ pod2a 10.244.1.2
 *           └─ pod1b 10.244.0.3                               └─ pod2b 10.244.1.3
 * ```
 */
import { UsageError } from '../errors.js';
import { formatIpv4, formatPrefix, parsePrefix, prefixesOverlap, type Ipv4Prefix } from '../packet/address.js';

/** How pods are made: bare network namespaces, or containers of a Docker engine on each node. */
export type LabRuntime = 'netns' | 'docker';

/** What a user may ask for. */
export interface LabOptions {
  /** Tells labs on one machine apart. */
  readonly name?: string;
  readonly nodes?: number;
  readonly podsPerNode?: number;
  /** `Backend.Type` of the network configuration. */
  readonly backend?: string;
  /** The overlay network, as a CIDR. */
  readonly network?: string;
  readonly runtime?: LabRuntime;
  /** Programs to run instead of this project's `flanneld`, by node name. */
  readonly flanneld?: ReadonlyMap<string, string>;
}

/** A machine of the lab that is a network namespace. */
export interface PlacePlan {
  /** As users say it: `node1`, `outside`. */
  readonly name: string;
  readonly namespace: string;
  /** Its eth0 on the underlay. */
  readonly address: string;
}

export interface PodPlan {
  readonly name: string;
  /** `null` for a container, whose namespace has no name. */
  readonly namespace: string | null;
  readonly address: string;
}

export interface NodePlan extends PlacePlan {
  readonly subnet: string;
  /** First address of the subnet: what the pods' bridge has. */
  readonly gateway: string;
  /** The program that runs as `flanneld`; `null` for this project's own. */
  readonly flanneld: string | null;
  readonly pods: readonly PodPlan[];
}

/** All of a lab's names and addresses. Plain text and numbers, since it is kept as JSON while the lab lives. */
export interface LabPlan {
  readonly name: string;
  readonly runtime: LabRuntime;
  readonly backend: string;
  readonly network: string;
  readonly subnetLength: number;
  /** The bridge that pods of a node share. */
  readonly bridge: string;
  /** The overlay device on each node; `null` for a backend that has none. */
  readonly overlayDevice: string | null;
  readonly underlay: { readonly name: string; readonly namespace: string; readonly cidr: string };
  readonly etcd: PlacePlan;
  /** The default gateway of every node, and the address beyond it that stands for the world. */
  readonly outside: PlacePlan & { readonly world: string };
  readonly nodes: readonly NodePlan[];
}

export const DEFAULT_LAB_NAME = 'lab';
/** Where the network's keys begin: flannel's default. */
export const LAB_PREFIX = '/coreos.com/network';
const MAX_NODES = 99;
const MAX_PODS = 26;

/** The device each backend of flannel's makes; the first network on a node gets the first name. */
const OVERLAY_DEVICES: Readonly<Record<string, string | null>> = {
  udp: 'flannel0',
  vxlan: 'flannel.1',
  'host-gw': null,
};

/** RFC 5737's documentation networks: addresses that no real host has. */
const WORLDS = ['203.0.113.10', '198.51.100.10', '192.0.2.10'];

/**
 * Plans a lab.
 * @param taken - prefixes of this machine, which the underlay stays clear of so that nobody mistakes one for the other
 * @throws UsageError when the options make no lab
 */
export function planLab(options: LabOptions, taken: readonly Ipv4Prefix[] = []): LabPlan {
  const { nodes: nodeCount = 3, podsPerNode = 2, backend = 'udp', runtime = 'netns' } = options;
  const name = checkLabName(options.name ?? DEFAULT_LAB_NAME);
  requireWhole('--nodes', nodeCount, 1, MAX_NODES);
  requireWhole('--pods', podsPerNode, 0, MAX_PODS);
  if (!Object.hasOwn(OVERLAY_DEVICES, backend)) {
    throw new UsageError(`--backend '${backend}': expected ${Object.keys(OVERLAY_DEVICES).join(', ')}`);
  }
  const network = parsePrefix(options.network ?? '10.244.0.0/16');
  if (network === undefined) throw new UsageError(`--network '${options.network}': expected a CIDR like 10.244.0.0/16`);
  const subnetLength = network.length > 22 ? network.length + 2 : 24;
  const subnetBits = 32 - subnetLength;
  const room = 2 ** (subnetLength - network.length);
  if (nodeCount > room) {
    throw new UsageError(
      `--network ${formatPrefix(network)} has ${room} subnets of /${subnetLength}: too few for ${nodeCount} nodes`,
    );
  }
  if (subnetBits < 2 || podsPerNode > 2 ** subnetBits - 3) {
    throw new UsageError(
      `--network ${formatPrefix(network)}: a /${subnetLength} for a node is too small for ${podsPerNode} pods`,
    );
  }
  for (const node of options.flanneld?.keys() ?? []) {
    if (!/^node[1-9][0-9]?$/.test(node) || Number(node.slice(4)) > nodeCount) {
      throw new UsageError(`--flanneld ${node}=…: this lab has node1 to node${nodeCount}`);
    }
  }

  const underlay = chooseUnderlay([network, ...taken]);
  const on = (host: number) => formatIpv4(underlay.address + host);
  const place = (placeName: string, host: number): PlacePlan => ({
    name: placeName,
    namespace: namespaceName(name, placeName),
    address: on(host),
  });
  return {
    name,
    runtime,
    backend,
    network: formatPrefix(network),
    subnetLength,
    bridge: runtime === 'docker' ? 'docker0' : 'cni0',
    overlayDevice: OVERLAY_DEVICES[backend],
    underlay: { name: 'underlay', namespace: namespaceName(name, 'underlay'), cidr: formatPrefix(underlay) },
    etcd: place('etcd', 2),
    outside: { ...place('outside', 1), world: chooseWorld(network) },
    nodes: Array.from({ length: nodeCount }, (_, index): NodePlan => {
      const number = index + 1;
      const subnet = network.address + index * 2 ** subnetBits;
      return {
        ...place(`node${number}`, 10 + number),
        subnet: `${formatIpv4(subnet)}/${subnetLength}`,
        gateway: formatIpv4(subnet + 1),
        flanneld: options.flanneld?.get(`node${number}`) ?? null,
        pods: Array.from({ length: podsPerNode }, (__, pod): PodPlan => {
          const podName = `pod${number}${String.fromCharCode(97 + pod)}`;
          return {
            name: podName,
            namespace: runtime === 'docker' ? null : namespaceName(name, podName),
            address: formatIpv4(subnet + 2 + pod),
          };
        }),
      };
    }),
  };
}

/** @throws UsageError when this cannot be the name of a lab */
export function checkLabName(name: string): string {
  // Long enough for people, short enough for the unix sockets below the lab's folder (108 bytes, unix(7)).
  if (!/^[a-z][a-z0-9-]{0,19}$/.test(name)) {
    throw new UsageError(
      `--name '${name}': expected up to 20 small letters, digits and dashes, beginning with a letter`,
    );
  }
  return name;
}

/** The network namespace of a place of a lab. */
function namespaceName(lab: string, place: string): string {
  return `fl-${lab}-${place}`;
}

/** Whether a namespace belongs to this lab; lab `a` must not claim those of a lab `a-node1`. */
export function isNamespaceOf(lab: string, namespace: string): boolean {
  const prefix = `fl-${lab}-`;
  return (
    namespace.startsWith(prefix) &&
    /^(underlay|etcd|outside|node[0-9]{1,2}|pod[0-9]{1,2}[a-z])$/.test(namespace.slice(prefix.length))
  );
}

/** Every name of the lab with its address, as /etc/hosts has it. */
export function hostsFile(plan: LabPlan): string {
  const lines = [
    ['127.0.0.1', 'localhost'],
    ['::1', 'localhost'],
    [plan.outside.world, plan.outside.name],
    [plan.etcd.address, plan.etcd.name],
    ...plan.nodes.flatMap((node) => [
      [node.address, node.name],
      ...node.pods.map((pod) => [pod.address, pod.name] as const),
    ]),
  ];
  return lines.map(([address, name]) => `${address}\t${name}\n`).join('');
}

/** The network configuration for etcd: node1 gets the very first subnet, which flannel's default would leave out. */
export function networkConfig(plan: LabPlan): string {
  return JSON.stringify({
    Network: plan.network,
    SubnetLen: plan.subnetLength,
    SubnetMin: plan.nodes[0].subnet.split('/')[0],
    Backend: { Type: plan.backend },
  });
}

function requireWhole(flag: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new UsageError(`${flag} '${value}': expected a whole number from ${least} to ${most}`);
  }
}

function chooseUnderlay(taken: readonly Ipv4Prefix[]): Ipv4Prefix {
  const bases = [...Array(64).keys()].map((third) => `192.168.${64 + third}.0/24`);
  for (const cidr of [...bases, '172.30.64.0/24', '10.213.64.0/24']) {
    const candidate = parsePrefix(cidr);
    if (candidate !== undefined && !taken.some((prefix) => prefixesOverlap(prefix, candidate))) return candidate;
  }
  throw new UsageError('no room for an underlay beside this machine’s networks: choose another --network');
}

function chooseWorld(network: Ipv4Prefix): string {
  const world = WORLDS.find((address) => {
    const prefix = parsePrefix(`${address}/32`);
    return prefix !== undefined && !prefixesOverlap(prefix, network);
  });
  if (world === undefined) throw new UsageError(`--network ${formatPrefix(network)} leaves no address for the outside`);
  return world;
}
