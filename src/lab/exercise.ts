/**
 * The exercise everybody does on their first overlay network: ping a pod beside, a pod on another node and a host
 * outside, and watch with tcpdump where each packet passes. Every leg of a way is watched for what must be there and for
 * what must not.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { FlannelError } from '../errors.js';
import { Capture } from './capture.js';
import type { Lab } from './lab.js';
import { Namespace } from './namespace.js';
import type { LabPlan, NodePlan, PodPlan } from './plan.js';

/** A device to watch, and what is to be seen there. */
interface Watch {
  readonly place: string;
  readonly namespace: string;
  readonly device: string;
  readonly filter: string;
  /** The text that every packet's line has, whichever way it goes; `null` where no packet may pass. */
  readonly shows: string | null;
}

/** What was seen on a device. */
export interface Sighting {
  readonly place: string;
  readonly device: string;
  readonly expected: boolean;
  readonly packets: number;
  /** The first packet, as tcpdump wrote it. */
  readonly sample: string;
  readonly ok: boolean;
}

/** One trip of the exercise. */
export interface Trip {
  readonly title: string;
  readonly from: string;
  readonly to: string;
  readonly ok: boolean;
  /** What came of it, in a few words. */
  readonly outcome: string;
  readonly sightings: readonly Sighting[];
  /** Output worth showing as it is. */
  readonly lines: readonly string[];
}

const PINGS = 3;
/** Requests and answers. */
const PING_PACKETS = 2 * PINGS;
/** How much of a large lab the mesh covers, and how many pings are under way at a time. */
const MESH_NODES = 8;
const MESH_PODS = 2;
const MESH_PINGERS = 8;
/** How long a capture may lag behind the packets. */
const LAG_MS = 1000;

/** The parts of the exercise in order; each can be run by itself. The lab needs two nodes, and two pods on the first. */
export const EXERCISE: readonly ((lab: Lab, signal: AbortSignal) => Promise<Trip>)[] = [
  sameNode,
  acrossNodes,
  toTheOutside,
  everyPair,
  route,
  throughput,
];

function sameNode(lab: Lab, signal: AbortSignal): Promise<Trip> {
  const { plan } = lab;
  const [node] = plan.nodes;
  const [from, to] = node.pods;
  const watches = [
    watch(node, plan.bridge, `icmp and host ${from.address} and host ${to.address}`, from.address),
    ...overlayWatch(plan, node, 'icmp', null),
    watch(node, 'eth0', UNDERLAY_FILTERS[plan.backend], null),
  ];
  return pingTrip(lab, 'pod to pod on one node', from, to.name, watches, signal);
}

function acrossNodes(lab: Lab, signal: AbortSignal): Promise<Trip> {
  const { plan } = lab;
  const [here, there] = plan.nodes;
  const [from] = here.pods;
  const [to] = there.pods;
  const inner = `icmp and host ${from.address} and host ${to.address}`;
  const outer = `(${UNDERLAY_FILTERS[plan.backend]}) and host ${here.address} and host ${there.address}`;
  const shows = plan.overlayDevice === null ? from.address : here.address;
  const watches = [
    watch(here, plan.bridge, inner, from.address),
    ...overlayWatch(plan, here, inner, from.address),
    watch(here, 'eth0', plan.overlayDevice === null ? inner : outer, shows),
    watch(there, 'eth0', plan.overlayDevice === null ? inner : outer, shows),
    ...overlayWatch(plan, there, inner, from.address),
    watch(there, plan.bridge, inner, from.address),
  ];
  return pingTrip(lab, 'pod to pod across nodes', from, to.name, watches, signal);
}

function toTheOutside(lab: Lab, signal: AbortSignal): Promise<Trip> {
  const { plan } = lab;
  const [node] = plan.nodes;
  const [from] = node.pods;
  const { world } = plan.outside;
  const filter = `icmp and host ${world}`;
  const watches = [
    watch(node, plan.bridge, filter, from.address),
    ...overlayWatch(plan, node, 'icmp', null),
    // Masqueraded: from here on it is the node that speaks.
    watch(node, 'eth0', filter, node.address),
    watch(plan.outside, 'eth0', filter, node.address),
  ];
  return pingTrip(lab, 'pod to the outside, masqueraded', from, plan.outside.name, watches, signal);
}

/** No tcpdump here: whether each pod of the first nodes has an answer from each other one. */
async function everyPair(lab: Lab, signal: AbortSignal): Promise<Trip> {
  const pods = lab.plan.nodes.slice(0, MESH_NODES).flatMap((node) => node.pods.slice(0, MESH_PODS));
  const pairs = pods.flatMap((from) => pods.filter((to) => to !== from).map((to) => [from, to] as const));
  const silent: string[] = [];
  const waiting = pairs.values();
  const pinger = async (): Promise<void> => {
    for (const [from, to] of waiting) {
      signal.throwIfAborted();
      const { status } = await lab.exec(from.name, 'ping', ['-c', '1', '-W', '2', to.address], { allowFailure: true });
      if (status !== 0) silent.push(`${from.name} → ${to.name}`);
    }
  };
  await Promise.all(Array.from({ length: MESH_PINGERS }, pinger));
  return {
    title: `each of ${pods.length} pods to each other`,
    from: 'all pods',
    to: 'all pods',
    ok: silent.length === 0,
    outcome: `${pairs.length - silent.length} of ${pairs.length} pairs`,
    sightings: [],
    lines: silent.length === 0 ? [] : [`no answer: ${silent.slice(0, 6).join(', ')}${silent.length > 6 ? ', …' : ''}`],
  };
}

async function route(lab: Lab, _signal: AbortSignal): Promise<Trip> {
  const { plan } = lab;
  const from = plan.nodes[0].pods[0];
  const to = plan.nodes[1].pods[0];
  const args = ['-n', '-q', '1', '-w', '1', '-m', '10', to.address];
  const { stdout } = await lab.exec(from.name, 'traceroute', args, { allowFailure: true });
  const names = hopNames(plan);
  const hops = stdout
    .split('\n')
    .slice(1)
    .filter((line) => line.trim() !== '');
  const lines = hops.map((hop) => {
    const address = /[0-9]+(?:\.[0-9]+){3}/.exec(hop)?.[0];
    return `${hop.trimEnd().padEnd(32)}${address === undefined ? 'no answer' : (names.get(address) ?? '')}`.trimEnd();
  });
  const ok = hops.at(-1)?.includes(` ${to.address} `) === true;
  return {
    title: 'traceroute from pod to pod',
    from: from.name,
    to: to.name,
    ok,
    outcome: ok ? `${hops.length} hops` : `did not arrive within ${hops.length} hops`,
    sightings: [],
    lines,
  };
}

async function throughput(lab: Lab, signal: AbortSignal): Promise<Trip> {
  const { plan } = lab;
  const from = plan.nodes[0].pods[0];
  const to = plan.nodes[1].pods[0];
  const about = { title: 'TCP from pod to pod, 3 s of iperf3', from: from.name, to: to.name, sightings: [] };
  const server = Namespace.attach(to.namespace ?? '').spawn('iperf3', ['--server', '--one-off', '--forceflush']);
  try {
    await new Promise<void>((resolve) => {
      let said = '';
      server.stdout?.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        if (said.includes('listening')) resolve();
      });
      server.once('close', () => resolve());
    });
    signal.throwIfAborted();
    const args = ['--client', to.address, '--time', '3', '--json', '--connect-timeout', '3000'];
    const { stdout } = await lab.exec(from.name, 'iperf3', args, { allowFailure: true, timeoutMs: 30_000 });
    const report = JSON.parse(stdout) as IperfReport;
    if (report.error !== undefined || report.end?.sum_received === undefined) {
      return { ...about, ok: false, outcome: report.error ?? 'no result', lines: [] };
    }
    const { bytes, bits_per_second: speed } = report.end.sum_received;
    const size = `${(bytes / 1e6).toFixed(0)} MB, ${report.end.sum_sent?.retransmits ?? 0} retransmissions`;
    return { ...about, ok: bytes > 0, outcome: `${formatSpeed(speed)} (${size})`, lines: [] };
  } catch (error) {
    if (error instanceof FlannelError || error instanceof SyntaxError) {
      return { ...about, ok: false, outcome: 'iperf3 got nowhere', lines: [error.message] };
    }
    throw error;
  } finally {
    server.kill('SIGKILL');
  }
}

interface IperfReport {
  readonly error?: string;
  readonly end?: {
    readonly sum_received?: { readonly bytes: number; readonly bits_per_second: number };
    readonly sum_sent?: { readonly retransmits?: number };
  };
}

/** Pings while the devices are watched, and judges both. */
async function pingTrip(
  lab: Lab,
  title: string,
  from: PodPlan,
  to: string,
  watches: readonly Watch[],
  signal: AbortSignal,
): Promise<Trip> {
  const captures: Capture[] = [];
  try {
    for (const { namespace, device, filter } of watches) {
      captures.push(await Capture.start(Namespace.attach(namespace), device, filter));
      signal.throwIfAborted();
    }
    const args = ['-c', String(PINGS), '-i', '0.2', '-W', '1', to];
    const { stdout } = await lab.exec(from.name, 'ping', args, { allowFailure: true });
    signal.throwIfAborted();
    const complete = () =>
      captures.every((one, index) => watches[index].shows === null || one.packets.length >= PING_PACKETS);
    for (const deadline = Date.now() + LAG_MS; !complete() && Date.now() < deadline;) await sleep(20);
    const sightings = await Promise.all(captures.map(async (one, index) => judge(watches[index], await one.stop())));
    const answers = Number(/([0-9]+) received/.exec(stdout)?.[1] ?? 0);
    const time = /= [0-9.]+\/([0-9.]+)\//.exec(stdout)?.[1];
    return {
      title,
      from: from.name,
      to,
      ok: answers === PINGS && sightings.every((sighting) => sighting.ok),
      outcome: `${answers} of ${PINGS} pings answered${time === undefined ? '' : `, ${time} ms on average`}`,
      sightings,
      lines: [],
    };
  } finally {
    await Promise.all(captures.map((capture) => capture.stop()));
  }
}

function judge({ place, device, shows }: Watch, packets: readonly string[]): Sighting {
  const sample = (packets[0] ?? '').replace(/^IP /, '').replace(/, id [0-9]+, seq [0-9]+, length [0-9]+$/, '');
  const ok =
    shows === null
      ? packets.length === 0
      : packets.length >= PING_PACKETS && packets.every((packet) => packet.includes(shows));
  return { place, device, expected: shows !== null, packets: packets.length, sample, ok };
}

function watch(
  place: { readonly name: string; readonly namespace: string },
  device: string,
  filter: string,
  shows: string | null,
): Watch {
  return { place: place.name, namespace: place.namespace, device, filter, shows };
}

/** The overlay device, for backends that have one. */
function overlayWatch(plan: LabPlan, node: NodePlan, filter: string, shows: string | null): Watch[] {
  return plan.overlayDevice === null ? [] : [watch(node, plan.overlayDevice, filter, shows)];
}

/** How each backend's packets look between the nodes. */
const UNDERLAY_FILTERS: Readonly<Record<string, string>> = {
  udp: 'udp port 8285',
  vxlan: 'udp port 8472',
  'host-gw': 'icmp',
};

/** Who answers at which address. */
function hopNames(plan: LabPlan): Map<string, string> {
  const names = new Map<string, string>();
  for (const node of plan.nodes) {
    names.set(node.address, `${node.name}, eth0`);
    names.set(node.gateway, `${node.name}, ${plan.bridge}`);
    if (plan.overlayDevice !== null) names.set(node.subnet.split('/')[0], `${node.name}, ${plan.overlayDevice}`);
    for (const pod of node.pods) names.set(pod.address, pod.name);
  }
  return names;
}

function formatSpeed(bitsPerSecond: number): string {
  const gigabits = bitsPerSecond / 1e9;
  return gigabits >= 1 ? `${gigabits.toFixed(2)} Gbit/s` : `${(bitsPerSecond / 1e6).toFixed(0)} Mbit/s`;
}
