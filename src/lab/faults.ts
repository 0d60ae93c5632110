/**
 * Faults of a lab, to learn the tools on: each is something that happens to real clusters, and can be taken away again.
 * Whatever breaks a node's connection is done outside of the node, in the underlay, where real nodes cannot look either.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FlannelError, UsageError } from '../errors.js';
import { runCommand, type RunCommand } from '../host/command.js';
import { listInterfaces, type HostInterface } from '../host/interfaces.js';
import { parseIpv4, formatIpv4 } from '../packet/address.js';
import { EtcdGateway } from './etcd-gateway.js';
import { CLIENT_SOCKET } from './etcd-server.js';
import { Namespace } from './namespace.js';
import { LAB_PREFIX, type LabPlan, type NodePlan } from './plan.js';
import { requireLabMachine } from './requirements.js';
import { placeFolder } from './state.js';

export const FAULT_NAMES = ['mtu', 'firewall', 'node-down', 'rp-filter', 'stolen-lease', 'limit'] as const;
export type FaultName = (typeof FAULT_NAMES)[number];

/** Where a fault strikes. */
export interface FaultPlace {
  readonly plan: LabPlan;
  readonly node: NodePlan;
  /** The other node of the pair, for a fault that can be between two. */
  readonly peer?: NodePlan;
}

/** A fault that is there: the shape of `faults` in `flannelctl lab status --json`. */
export interface ActiveFault {
  readonly fault: FaultName;
  /** Names of the node that it strikes, and of the other one of a pair. */
  readonly node: string;
  readonly peer: string | null;
  readonly summary: string;
}

interface Fault {
  readonly summary: string;
  /** What it does at a place, in words. */
  describe(place: FaultPlace): string;
  break(place: FaultPlace): Promise<void>;
  /** Takes it away from a node, whether it is there or not. */
  heal(place: FaultPlace): Promise<void>;
  /** Looks where it is, whoever broke it: a heal by hand counts. */
  find(plan: LabPlan): Promise<FaultPlace[]>;
}

const NARROW_MTU_BYTES = 1400;
const ORDINARY_MTU_BYTES = 1500;
const FIREWALL_TABLE = 'flannelette-fault';
/** On the underlay, and nobody's. */
const THIEF_HOST_NUMBER = 99;
const TUNNEL_PORT = 8285;
const LEASE_SECONDS = 86_400;
/** An agent needs a moment to come back to its subnet. */
const GIVE_BACK_MS = 30_000;

/** By their names, which are what `flannelctl lab break` takes. */
export const FAULTS: Readonly<Record<FaultName, Fault>> = {
  mtu: {
    summary: `the underlay to a node carries ${NARROW_MTU_BYTES} bytes only, and does not say so`,
    describe: ({ node }) => `packets of more than ${NARROW_MTU_BYTES} bytes to ${node.name} vanish on the underlay`,
    break: (place) => underlay(place).setMtu(place.node.name, NARROW_MTU_BYTES),
    heal: (place) => underlay(place).setMtu(place.node.name, ORDINARY_MTU_BYTES),
    find: (plan) => findByCable(plan, ({ mtuBytes }) => mtuBytes === NARROW_MTU_BYTES),
  },
  firewall: {
    summary: `a firewall in the underlay eats UDP ${TUNNEL_PORT} of a node, or between two`,
    describe({ node, peer }) {
      const between = peer === undefined ? `of ${node.name}` : `between ${node.name} and ${peer.name}`;
      return `UDP ${TUNNEL_PORT} ${between} is dropped on the underlay`;
    },
    async break(place) {
      await nft(place, `${removeTable()}\n${firewallTable(place.node, place.peer)}`);
    },
    heal: (place) => nft(place, removeTable()),
    find: findFirewall,
  },
  'node-down': {
    summary: "a node's cable is pulled",
    describe: ({ node }) => `${node.name} is cut off from the underlay`,
    async break(place) {
      await underlay(place).ip(`link set ${place.node.name} down`);
    },
    heal: (place) => underlay(place).setUp(place.node.name),
    find: (plan) => findByCable(plan, ({ up }) => !up),
  },
  'rp-filter': {
    summary: 'strict reverse path filtering on a node, as some distributions set it',
    describe: ({ node }) => `net.ipv4.conf.*.rp_filter is 1 on ${node.name}`,
    break: ({ plan, node }) => setReversePathFilter(plan, node, '1'),
    heal: async ({ plan, node }) => setReversePathFilter(plan, node, await reversePathFilter(node, 'default')),
    // Where it is strict by default, nothing was broken, and nothing would be healed.
    find: (plan) =>
      findByNode(plan, async (node) => {
        const [all, preset] = await Promise.all([reversePathFilter(node, 'all'), reversePathFilter(node, 'default')]);
        return all === '1' && preset !== '1';
      }),
  },
  'stolen-lease': {
    summary: "a node's subnet stands in etcd as another's",
    describe: ({ plan, node }) => `the lease of ${node.subnet}, ${node.name}'s, belongs to ${thiefOf(plan)} now`,
    break: ({ plan, node }) =>
      etcd(plan).put(leaseKey(node), JSON.stringify({ PublicIP: thiefOf(plan), PublicIPv6: null })),
    async heal({ plan, node }) {
      if (await isStolen(plan, node)) await giveBack(plan, node);
    },
    find: (plan) => findByNode(plan, (node) => isStolen(plan, node)),
  },
  limit: {
    summary: 'the underlay to a node carries 128 kbit/s, with hardly a queue',
    describe: ({ node }) => `what goes to ${node.name} on the underlay is limited to 128 kbit/s`,
    async break(place) {
      const shape = ['tbf', 'rate', '128kbit', 'burst', '5kb', 'limit', '10kb'];
      await tc(place, ['replace', 'dev', place.node.name, 'root', ...shape]);
    },
    // Without one there is nothing to delete, and tc says so.
    async heal(place) {
      await tc(place, ['delete', 'dev', place.node.name, 'root'], true);
    },
    async find(plan) {
      const shown = JSON.parse(await tc({ plan }, ['show'])) as { readonly kind: string; readonly dev: string }[];
      const limited = new Set(shown.filter(({ kind }) => kind === 'tbf').map(({ dev }) => dev));
      return plan.nodes.filter(({ name }) => limited.has(name)).map((node) => ({ plan, node }));
    },
  },
};

/**
 * Breaks something.
 * @returns what was done, in words
 * @throws UsageError for a pair that the fault has not; FlannelError `LAB` for a node that is not there
 */
export async function breakLab(plan: LabPlan, fault: FaultName, node: string, peer?: string): Promise<string> {
  if (peer !== undefined && fault !== 'firewall') {
    throw new UsageError(`the fault "${fault}" strikes one node: --peer goes with "firewall" only`);
  }
  if (peer === node) throw new UsageError(`--peer ${node}: name another node than --node`);
  requireLabMachine(fault === 'firewall' ? ['nft'] : []);
  const place = { plan, node: findNode(plan, node), peer: peer === undefined ? undefined : findNode(plan, peer) };
  await FAULTS[fault].break(place);
  return FAULTS[fault].describe(place);
}

/** Takes faults away from every node: one of them, or all. */
export async function healLab(plan: LabPlan, fault?: FaultName): Promise<void> {
  for (const name of fault === undefined ? FAULT_NAMES : [fault]) {
    for (const node of plan.nodes) await FAULTS[name].heal({ plan, node });
  }
}

/**
 * The faults that are there, as the lab itself shows them. What cannot be looked at, as in a lab whose etcd or namespaces
 * are gone, is left out: the rest of its status tells that.
 */
export async function activeFaults(plan: LabPlan): Promise<ActiveFault[]> {
  const found = await Promise.all(
    FAULT_NAMES.map(async (fault) => {
      const places = await FAULTS[fault].find(plan).catch(() => []);
      return places.map((place): ActiveFault => {
        const { node, peer } = place;
        return { fault, node: node.name, peer: peer?.name ?? null, summary: FAULTS[fault].describe(place) };
      });
    }),
  );
  return found.flat();
}

function findNode(plan: LabPlan, name: string): NodePlan {
  const node = plan.nodes.find((one) => one.name === name);
  if (node !== undefined) return node;
  throw new FlannelError('LAB', `there is no node "${name}": this lab has node1 to node${plan.nodes.length}`);
}

/** Nodes for whose cable, as the underlay has it, something holds. */
async function findByCable(plan: LabPlan, holds: (cable: HostInterface) => boolean): Promise<FaultPlace[]> {
  const run: RunCommand = (command, args, options) => underlay({ plan }).exec(command, args, options);
  const cables = new Set((await listInterfaces(run)).filter(holds).map(({ name }) => name));
  return plan.nodes.filter(({ name }) => cables.has(name)).map((node) => ({ plan, node }));
}

async function findByNode(plan: LabPlan, holds: (node: NodePlan) => Promise<boolean>): Promise<FaultPlace[]> {
  const struck = await Promise.all(plan.nodes.map(holds));
  return plan.nodes.filter((_, index) => struck[index]).map((node) => ({ plan, node }));
}

/** The one firewall that there can be says in a comment whose it is. */
async function findFirewall(plan: LabPlan): Promise<FaultPlace[]> {
  const { stdout } = await underlay({ plan }).exec('nft', ['list', 'table', 'bridge', FIREWALL_TABLE]);
  const [, name, other] = /comment "(\S+?)(?: (\S+))?"/.exec(stdout) ?? [];
  const node = plan.nodes.find((one) => one.name === name);
  if (node === undefined) return [];
  return [{ plan, node, peer: plan.nodes.find((one) => one.name === other) }];
}

function underlay({ plan }: Pick<FaultPlace, 'plan'>): Namespace {
  return Namespace.attach(plan.underlay.namespace);
}

function machine(node: NodePlan): Namespace {
  return Namespace.attach(node.namespace);
}

async function reversePathFilter(node: NodePlan, device: string): Promise<string> {
  return (await machine(node).exec('sysctl', ['-n', `net.ipv4.conf.${device}.rp_filter`])).stdout.trim();
}

async function setReversePathFilter(plan: LabPlan, node: NodePlan, value: string): Promise<void> {
  const devices = ['all', ...(plan.overlayDevice === null ? [] : [plan.overlayDevice])];
  for (const device of devices) await machine(node).setSysctl(`net.ipv4.conf.${device}.rp_filter`, value);
}

/** A table that is deleted is made first, for deleting one that is not there is an error. */
function removeTable(): string {
  return `add table bridge ${FIREWALL_TABLE}\ndelete table bridge ${FIREWALL_TABLE}`;
}

function firewallTable(node: NodePlan, peer: NodePlan | undefined): string {
  const pairs = [
    ['saddr', 'daddr'],
    ['daddr', 'saddr'],
  ];
  const names = [node, ...(peer === undefined ? [] : [peer])].map(({ name }) => name).join(' ');
  const rules = pairs.map(([mine, others]) => {
    const other = peer === undefined ? '' : ` ip ${others} ${peer.address}`;
    return `ip ${mine} ${node.address}${other} udp dport ${TUNNEL_PORT} drop comment "${names}"`;
  });
  return `table bridge ${FIREWALL_TABLE} {\n chain forward {\n  type filter hook forward priority 0;\n  ${rules.join('\n  ')}\n }\n}`;
}

async function nft(place: FaultPlace, script: string): Promise<void> {
  await underlay(place).exec('nft', ['-f', '-'], { input: `${script}\n` });
}

async function tc({ plan }: Pick<FaultPlace, 'plan'>, args: readonly string[], allowFailure = false): Promise<string> {
  const qdisc = ['-json', '-n', plan.underlay.namespace, 'qdisc', ...args];
  return (await runCommand('tc', qdisc, { allowFailure })).stdout;
}

function etcd(plan: LabPlan): EtcdGateway {
  return new EtcdGateway(join(placeFolder(plan.name, plan.etcd.name), CLIENT_SOCKET));
}

function leaseKey({ subnet }: NodePlan): string {
  return `${LAB_PREFIX}/subnets/${subnet.replace('/', '-')}`;
}

/**
 * Brings a node back to its subnet, whose pods have stayed: it is leased to the node again, and the thief goes on to the
 * one that the node has taken instead. The agent gives that up, finds the lease in its name, and goes on with it.
 */
async function giveBack(plan: LabPlan, node: NodePlan): Promise<void> {
  const store = etcd(plan);
  const lease = (key: string, owner: string): Promise<void> =>
    store.putLeased(key, JSON.stringify({ PublicIP: owner, PublicIPv6: null }), LEASE_SECONDS);
  const revisionOf = async (key: string): Promise<string | undefined> =>
    (await store.list(key)).find((found) => found.key === key)?.modRevision;

  const own = leaseKey(node);
  const taken = (await store.list(`${LAB_PREFIX}/subnets/`)).filter(({ value }) => value.includes(`"${node.address}"`));
  await lease(own, node.address);
  const written = await revisionOf(own);
  for (const { key } of taken) await lease(key, thiefOf(plan));
  // The agent writes the key when it goes on with it.
  const deadline = Date.now() + GIVE_BACK_MS;
  while (taken.length > 0 && (await revisionOf(own)) === written) {
    if (Date.now() > deadline) {
      throw new FlannelError('LAB', `${node.name} has not taken ${node.subnet} back; its log tells why`);
    }
    await sleep(50);
  }
  for (const { key } of taken) await store.delete(key);
}

async function isStolen(plan: LabPlan, node: NodePlan): Promise<boolean> {
  return (await etcd(plan).get(leaseKey(node)))?.includes(`"${thiefOf(plan)}"`) === true;
}

function thiefOf(plan: LabPlan): string {
  return formatIpv4((parseIpv4(plan.underlay.cidr.split('/')[0]) ?? 0) + THIEF_HOST_NUMBER);
}
