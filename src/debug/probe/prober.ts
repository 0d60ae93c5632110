/**
 * Sends the packets of a probe and gathers what is known of them: what this node's own tap sees, what others report over
 * the board, and, where packets were lost, what a few more packets tell.
 */
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { childAbort } from '../../child-abort.js';
import { errorMessage, FlannelError } from '../../errors.js';
import { RawSender } from '../../host/raw-sender.js';
import type { ProbeService } from '../../observe/probe-answer.js';
import type { PacketProbeAnswer, PacketProbeRequest, ProbeAnswer, ProbeRequest } from '../../observe/probe-protocol.js';
import { MIN_PROBE_BYTES } from '../../observe/probe-request.js';
import { formatIpv4, formatPrefix, parseIpv4, prefixContains } from '../../packet/address.js';
import { fragmentIpv4 } from '../../packet/fragment.js';
import { PROTOCOL_NUMBERS, UDP_OVERHEAD_BYTES } from '../../packet/ipv4.js';
import type { PostedCall, ProbeReport } from '../../subnet/probe-board.js';
import {
  answerTo,
  sightingOf,
  wasAnswered,
  watchedWell,
  type Evidence,
  type NodeSighting,
  type Watching,
} from './evidence.js';
import { hopsOf } from './hops.js';
import { likelyCause } from './likely-cause.js';
import { probeMesh, STORE_TIMEOUT_MS } from './mesh.js';
import { medianMs } from './mesh-row.js';
import { followPackets } from './packet-follower.js';
import { formatCall, integerOf, type PacketCall } from './probe-call.js';
import { buildProbePacket } from './probe-packet.js';
import type { ProbeNode, ProbePlace } from './probe-node.js';
import { checkDestination, chooseSource, type ProbeSource } from './probe-source.js';
import { parseFinding, parsePresence, parseSighting, type KernelFinding } from './sighting.js';

/** Probes that run at once. */
const MAX_PROBES = 4;
/** How long the node at the other end may take to say that it watches. */
const PRESENCE_MS = 3000;
/** Between one packet and the next. */
const PACKET_GAP_MS = 100;
/** How long reports may lag behind the packets. */
const REPORT_LAG_MS = 2000;
/** Longer than an agent waits before it asks its kernel, and that takes. */
const FINDING_MS = 4000;
const POLL_MS = 10;
/** A call outlives what it is for by so much, should this process die. */
const SPARE_SECONDS = 15;
/** Reports of one probe that are looked at. */
const MAX_REPORTS = 2000;
/** Packets smaller than this are not held to be lost for their size. */
const LARGE_BYTES = 500;

/** Where nobody listens as a rule: the port that traceroute begins with. */
const DEFAULT_PORTS = { icmp: 0, tcp: 80, udp: 33_434 } as const;

/** Probes that start at this node, a few at once. */
export class Prober implements ProbeService {
  private running = 0;

  constructor(private readonly node: ProbeNode) {}

  async probe(request: ProbeRequest, signal: AbortSignal): Promise<ProbeAnswer> {
    const place = this.node.place();
    if (place === undefined) throw new FlannelError('CONTROL', 'packets do not flow on this node yet: see its status');
    if (this.running >= MAX_PROBES) throw new FlannelError('CONTROL', `${MAX_PROBES} probes run already: wait for one`);
    this.running++;
    try {
      if (request.kind === 'mesh') return await probeMesh(this.node, place, request.timeoutMs, signal);
      return await this.probePackets(request, place, signal);
    } finally {
      this.running--;
    }
  }

  private async probePackets(
    request: PacketProbeRequest,
    place: ProbePlace,
    signal: AbortSignal,
  ): Promise<PacketProbeAnswer> {
    const destination = parseIpv4(request.destination) ?? 0;
    checkDestination(destination, place);
    const source = await chooseSource(request.source === undefined ? undefined : parseIpv4(request.source), place);
    const probe = new PacketProbe(this.node, place, request, source.address, destination);
    const evidence = await probe.run(signal);
    return answerOf(request, evidence, source);
  }
}

/** One probe under way. */
class PacketProbe {
  private readonly call: PacketCall;
  private readonly sent = new Map<number, { taken: boolean; time: string }>();
  readonly sightings: NodeSighting[] = [];
  private readonly watching = new Map<string, Watching>();
  private readonly findings = new Map<string, KernelFinding>();
  private readonly lost = new Map<string, number>();
  private readonly here: string;
  private readonly owner: Evidence['owner'];
  private sending = false;
  private reports = 0;
  private storeTrouble: string | null = null;
  private more: Pick<Evidence, 'peer' | 'smallAnswered'> = {};

  constructor(
    private readonly node: ProbeNode,
    private readonly place: ProbePlace,
    private readonly request: PacketProbeRequest,
    source: number,
    destination: number,
  ) {
    this.here = formatIpv4(place.publicIp);
    const lease = node
      .leases()
      .filter(({ subnet }) => prefixContains(subnet, destination))
      .sort((a, b) => b.subnet.length - a.subnet.length)
      .at(0);
    this.owner = lease === undefined ? null : { node: formatIpv4(lease.publicIp), lease: formatPrefix(lease.subnet) };
    // One more than asked for: a small one, should a large one be lost.
    const packets = request.count + 1;
    const icmp = request.protocol === 'icmp';
    this.call = {
      kind: 'packet',
      node: place.publicIp,
      protocol: PROTOCOL_NUMBERS[request.protocol],
      source,
      destination,
      nextHop: lease?.publicIp ?? 0,
      port: request.port ?? DEFAULT_PORTS[request.protocol],
      firstPort: icmp ? randomInt(1, 0x10000 - packets) : randomInt(32_768, 61_000 - packets),
      firstIdentification: randomInt(1, 0x10000 - packets),
      packets,
    };
  }

  /** @throws FlannelError when packets cannot be watched or sent at all; the signal's reason */
  async run(signal: AbortSignal): Promise<Evidence> {
    const stop = followPackets(this.node.hub, this.call, {
      seen: (sighting) => this.sightings.push({ ...sighting, node: this.here }),
      lost: (records) => this.lost.set(this.here, records),
    });
    const over = childAbort(signal);
    let posted: PostedCall | undefined;
    let sender: RawSender | undefined;
    try {
      sender = await RawSender.open();
      posted = await this.post(over.signal);
      if (posted !== undefined && this.owner !== null) {
        const { node } = this.owner;
        await this.until(() => this.watching.has(node), PRESENCE_MS, signal);
      }
      this.sending = true;
      await this.send(sender, signal);
      await this.gather(sender, posted !== undefined, signal);
      return this.evidence();
    } finally {
      over.abort();
      stop();
      sender?.close();
      await posted?.end();
    }
  }

  private evidence(): Evidence {
    const { here, call, owner, sent, sightings, watching, findings, lost, storeTrouble, more } = this;
    const { sizeBytes, dontFragment } = this.request;
    const { device, deviceMtuBytes, network, port } = this.place;
    return {
      ...{ here, call, owner, sent, sightings, watching, findings, lost, storeTrouble },
      ...{ sizeBytes, dontFragment, device, deviceMtuBytes, port },
      masqueraded: !prefixContains(network, call.source),
      ...more,
    };
  }

  /** Lets the other agents know; without the store, this node's own sightings are all there is. */
  private async post(signal: AbortSignal): Promise<PostedCall | undefined> {
    const { board } = this.node;
    if (board === undefined) return undefined;
    const { count, timeoutMs } = this.request;
    const seconds = Math.ceil((count * PACKET_GAP_MS + 2 * timeoutMs) / 1000) + SPARE_SECONDS;
    const limit = childAbort(signal, STORE_TIMEOUT_MS);
    try {
      const posted = await board.call(formatCall(this.call), seconds, limit.signal);
      posted
        .watchReports((report) => this.take(report), signal)
        .catch((error: unknown) => (this.storeTrouble ??= errorMessage(error)));
      return posted;
    } catch (error) {
      signal.throwIfAborted();
      this.storeTrouble = errorMessage(error);
      return undefined;
    } finally {
      limit.abort();
    }
  }

  private take({ node, name, text }: ProbeReport): void {
    if (++this.reports > MAX_REPORTS || node === this.here || parseIpv4(node) === undefined) return;
    if (name === 'here') {
      const presence = parsePresence(text);
      if (presence !== undefined) this.watching.set(node, { ...presence, inTime: !this.sending });
    } else if (name === 'kernel') {
      const finding = parseFinding(text);
      if (finding !== undefined) this.findings.set(node, finding);
    } else if (name === 'lost') {
      const records = integerOf(Number(text), 1, Number.MAX_SAFE_INTEGER);
      if (records !== undefined) this.lost.set(node, records);
    } else {
      const sighting = parseSighting(text);
      if (sighting !== undefined) this.sightings.push({ ...sighting, node });
    }
  }

  private async send(sender: RawSender, signal: AbortSignal): Promise<void> {
    const { count, sizeBytes, dontFragment, timeoutMs } = this.request;
    for (let packet = 0; packet < count; packet++) {
      if (packet > 0) await sleep(PACKET_GAP_MS, undefined, { signal });
      await this.sendOne(sender, packet, sizeBytes, dontFragment);
    }
    const all = Array.from({ length: count }, (_, packet) => packet);
    await this.until(() => all.every((packet) => this.settled(packet)), timeoutMs, signal);
  }

  /** Whether nothing more is to be expected of a packet. */
  private settled(packet: number): boolean {
    if (this.sent.get(packet)?.taken === false) return true;
    if ((sightingOf(this, packet, 'request', 'encap', this.here)?.reason ?? null) !== null) return true;
    return answerTo(this.evidence(), packet) !== undefined;
  }

  private async sendOne(sender: RawSender, packet: number, totalBytes: number, dontFragment: boolean): Promise<void> {
    const whole = buildProbePacket(this.call, packet, { totalBytes, dontFragment });
    // A packet that brings its own header is not fragmented by the kernel, as a pod's own would be.
    const pieces = fragmentIpv4(whole, 0, this.place.deviceMtuBytes) ?? [whole];
    const time = new Date().toISOString();
    const taken = await Promise.all(
      pieces.map((piece) => new Promise<boolean>((resolve) => sender.send(piece, resolve))),
    );
    this.sent.set(packet, { taken: taken.every(Boolean), time });
  }

  /** Waits for reports that are under way, and finds out more about what was lost. */
  private async gather(sender: RawSender, reported: boolean, signal: AbortSignal): Promise<void> {
    const { count } = this.request;
    const all = Array.from({ length: count }, (_, packet) => packet);
    if (reported) await this.until(() => all.every((packet) => this.complete(packet)), REPORT_LAG_MS, signal);
    const lost = all.find((packet) => !wasAnswered(this.evidence(), packet));
    if (lost === undefined || answerTo(this.evidence(), lost) !== undefined) return;
    const left = sightingOf(this, lost, 'request', 'encap', this.here);
    if (left === undefined) return this.askOwnKernel();
    if (left.reason !== null) return;
    const arrived = this.sightings.find(
      (one) => one.packet === lost && one.leg === 'request' && one.direction === 'decap',
    );
    const replied = sightingOf(this, lost, 'reply', 'encap');
    if (arrived !== undefined && replied === undefined) {
      if (arrived.reason === null) await this.until(() => this.findings.has(arrived.node), FINDING_MS, signal);
      return;
    }
    await Promise.all([this.trySmall(sender, signal), this.askPeer(signal)]);
  }

  /** Whether a packet's whole way has been reported, as far as there is somebody to report it. */
  private complete(packet: number): boolean {
    const evidence = this.evidence();
    if (this.owner === null || !watchedWell(evidence, this.owner.node)) return true;
    if (!wasAnswered(evidence, packet)) return false;
    const { node } = this.owner;
    return (
      sightingOf(this, packet, 'request', 'decap', node) !== undefined &&
      sightingOf(this, packet, 'reply', 'encap', node) !== undefined
    );
  }

  private async askOwnKernel(): Promise<void> {
    const { findInKernel } = await import('./kernel-finding.js');
    const { destination, protocol, port } = this.call;
    const { sizeBytes: lengthBytes, dontFragment } = this.request;
    // It was sent as this host's own, and so are the rules that it met.
    const spec = { destination, protocol, port: port === 0 ? undefined : port, ttl: 64, lengthBytes, dontFragment };
    this.findings.set(this.here, await findInKernel(spec, this.node));
  }

  private async trySmall(sender: RawSender, signal: AbortSignal): Promise<void> {
    const { sizeBytes, protocol, count, timeoutMs } = this.request;
    if (sizeBytes < LARGE_BYTES) return;
    await this.sendOne(sender, count, MIN_PROBE_BYTES[protocol], true);
    await this.until(() => wasAnswered(this.evidence(), count), timeoutMs, signal);
    this.more = { ...this.more, smallAnswered: wasAnswered(this.evidence(), count) };
  }

  private async askPeer(signal: AbortSignal): Promise<void> {
    const address = parseIpv4(this.owner?.node ?? '');
    if (address === undefined || this.owner === null) return;
    const [{ EchoProber }, { probePeers }] = await Promise.all([
      import('../../host/echo-prober.js'),
      import('../doctor/probe-peers.js'),
    ]);
    signal.throwIfAborted();
    const prober = await EchoProber.open();
    try {
      const { lease: subnet } = this.owner;
      const overlayAddress = parseIpv4(subnet.split('/')[0]) ?? 0;
      const { deviceMtuBytes, port } = this.place;
      const largeBytes = deviceMtuBytes + UDP_OVERHEAD_BYTES;
      const [peer] = await probePeers([{ address, subnet, overlayAddress }], { prober, largeBytes, port });
      this.more = { ...this.more, peer };
    } finally {
      prober.close();
    }
  }

  /** Waits until a condition holds, or the time is over. @throws the signal's reason */
  private async until(holds: () => boolean, withinMs: number, signal: AbortSignal): Promise<void> {
    for (const deadlineMs = performance.now() + withinMs; !holds() && performance.now() < deadlineMs;) {
      await sleep(POLL_MS, undefined, { signal });
    }
  }
}

function answerOf(request: PacketProbeRequest, evidence: Evidence, source: ProbeSource): PacketProbeAnswer {
  const packets = Array.from({ length: request.count }, (_, packet) => packet);
  const answered = packets.filter((packet) => wasAnswered(evidence, packet));
  const shown = packets.find((packet) => !answered.includes(packet)) ?? 0;
  const times = answered.map((packet) => roundTripMs(evidence, packet)).filter((time) => time !== undefined);
  const told = answerTo(evidence, answered.at(0) ?? shown)?.answer;
  return {
    reached: answered.length === request.count,
    hops: hopsOf(evidence, shown),
    likelyCause: likelyCause(evidence, shown),
    source: formatIpv4(source.address),
    sourceIs: source.is,
    destination: request.destination,
    protocol: request.protocol,
    port: request.protocol === 'icmp' ? null : evidence.call.port,
    sizeBytes: request.sizeBytes,
    sent: [...evidence.sent.keys()].filter((packet) => packet < request.count).length,
    answered: answered.length,
    answer: told ?? null,
    roundTripMs: times.length === 0 ? null : medianMs(times),
    notes: notesOf(evidence),
  };
}

/** By this node's own sightings, of one clock. */
function roundTripMs(evidence: Evidence, packet: number): number | undefined {
  const left = sightingOf(evidence, packet, 'request', 'encap', evidence.here);
  const back = answerTo(evidence, packet);
  if (left === undefined || back === undefined) return undefined;
  return Number(nanoseconds(back.time) - nanoseconds(left.time)) / 1e6;
}

function nanoseconds(iso: string): bigint {
  const [, fraction = ''] = iso.slice(0, -1).split('.');
  return BigInt(Date.parse(`${iso.slice(0, 19)}Z`)) * 1_000_000n + BigInt(fraction.padEnd(9, '0'));
}

function notesOf({ storeTrouble, lost }: Evidence): string[] {
  return [
    ...(storeTrouble === null ? [] : [`other nodes cannot be asked, for etcd is away: ${storeTrouble}`]),
    ...[...lost].map(([node, records]) => `${node} was too busy to watch it all: ${records} records were lost there`),
  ];
}
