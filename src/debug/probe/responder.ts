/**
 * An agent's part in the probes of others. It hears of every call; a call for packets that may pass here makes it watch its
 * dataplane for exactly those, and report each; a call for a mesh makes it measure its own ways to the other nodes, one
 * mesh at a time. Nothing that stands on the board makes it send anything else, or tell of other packets.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { childAbort, type ChildAbort } from '../../child-abort.js';
import { errorMessage } from '../../errors.js';
import type { Logger } from '../../log.js';
import type { ProbeStatistics } from '../../observe/control-protocol.js';
import { formatIpv4, formatPrefix, prefixContains, type Ipv4Prefix } from '../../packet/address.js';
import { IPV4_HEADER_BYTES } from '../../packet/ipv4.js';
import type { CallWatcher, HeardCall } from '../../subnet/probe-board.js';
import { followPackets } from './packet-follower.js';
import { parseCall, type MeshCall, type PacketCall } from './probe-call.js';
import type { ProbeNode, ProbePlace } from './probe-node.js';
import { formatFinding, formatPresence, formatSighting, type Sighting } from './sighting.js';

/** Calls that are answered at once. */
const MAX_CALLS = 8;
/** Calls that are answered a second, on average, and those that may come together. */
const CALLS_PER_SECOND = 2;
const CALLS_BURST = 20;
/** No call is followed for longer, whatever the store says. */
const MAX_CALL_MS = 60_000;
/** A packet that was delivered and not answered for so long is asked of the kernel. */
const ANSWER_MS = 1000;

/** Follows calls until its signal is aborted; what goes wrong with one is a debug line. */
export class ProbeResponder {
  private readonly active = new Map<string, ChildAbort>();
  private credit = CALLS_BURST;
  private creditAtMs = performance.now();
  private followed = 0;
  private meshes = 0;
  private ignored = 0;
  private meshEnds: Promise<unknown> | undefined;

  constructor(
    private readonly node: ProbeNode,
    private readonly logger: Logger,
  ) {}

  get statistics(): ProbeStatistics {
    const { followed, meshes, ignored } = this;
    return { followed, meshes, ignored };
  }

  /** Takes part until the signal aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const watcher: CallWatcher = {
      called: (call) => this.called(call, signal),
      ended: (id) => this.active.get(id)?.abort(),
      ignored: (key) => this.ignore(`the key ${JSON.stringify(key.slice(0, 200))}, which is no call`),
    };
    await this.node.board?.watchCalls(watcher, signal);
    for (const end of this.active.values()) end.abort();
  }

  private called(heard: HeardCall, signal: AbortSignal): void {
    if (this.active.has(heard.id)) return;
    const call = parseCall(heard.text);
    const place = this.node.place();
    if (call === undefined) return this.ignore(`the call ${heard.id}, which makes no sense`);
    if (place === undefined || call.node === place.publicIp || (call.kind === 'packet' && !concerns(call, place)))
      return;
    if (this.active.size >= MAX_CALLS || !this.takeCredit()) return this.ignore(`the call ${heard.id}: too many`);
    if (call.kind === 'mesh' && this.meshEnds !== undefined) {
      return this.ignore(`the mesh ${heard.id}, for another one is being measured`);
    }
    const end = childAbort(signal, MAX_CALL_MS);
    this.active.set(heard.id, end);
    const work =
      call.kind === 'packet'
        ? this.follow(heard, call, place, end.signal)
        : this.measure(heard, call, place, end.signal);
    if (call.kind === 'mesh') this.meshEnds = work;
    void work
      .catch((error: unknown) => this.logger.debug(`a probe could not be answered: ${errorMessage(error)}`))
      .finally(() => {
        end.abort();
        this.active.delete(heard.id);
        if (call.kind === 'mesh') this.meshEnds = undefined;
      });
  }

  private async follow(heard: HeardCall, call: PacketCall, place: ProbePlace, signal: AbortSignal): Promise<void> {
    this.followed++;
    const reports = new ReportQueue(this.node, heard, place, signal);
    const unanswered = new Map<number, Sighting>();
    let next = 0;
    let asked = false;
    const askKernel = async (delivered: Sighting): Promise<void> => {
      await sleep(ANSWER_MS, undefined, { signal });
      if (asked || unanswered.get(delivered.packet) !== delivered) return;
      asked = true;
      const { findInKernel } = await import('./kernel-finding.js');
      reports.add('kernel', formatFinding(await findInKernel(deliveredSpec(call), this.node)));
    };
    const stop = followPackets(this.node.hub, call, {
      seen: (sighting) => {
        reports.add(`seen-${next++}`, formatSighting(sighting));
        if (sighting.leg === 'reply') unanswered.delete(sighting.packet);
        else if (sighting.direction === 'decap' && sighting.reason === null) {
          unanswered.set(sighting.packet, sighting);
          void askKernel(sighting).catch(() => undefined);
        }
      },
      lost: (records) => reports.add('lost', String(records)),
    });
    try {
      reports.add('here', presenceOf(place, call.destination));
      if (!signal.aborted) await once(signal, 'abort');
    } finally {
      stop();
    }
  }

  private async measure(
    heard: HeardCall,
    { timeoutMs }: MeshCall,
    place: ProbePlace,
    signal: AbortSignal,
  ): Promise<void> {
    this.meshes++;
    const reports = new ReportQueue(this.node, heard, place, signal);
    reports.add('here', presenceOf(place, place.subnet.address));
    const { measureRow, formatRow } = await import('./mesh-row.js');
    reports.add('row', formatRow(await measureRow(this.node, place, timeoutMs)));
    await reports.written;
  }

  private takeCredit(): boolean {
    const nowMs = performance.now();
    const earned = ((nowMs - this.creditAtMs) / 1000) * CALLS_PER_SECOND;
    this.credit = Math.min(CALLS_BURST, this.credit + earned);
    this.creditAtMs = nowMs;
    if (this.credit < 1) return false;
    this.credit--;
    return true;
  }

  private ignore(what: string): void {
    this.ignored++;
    this.logger.debug(`passing over ${what}`);
  }
}

/** Writes reports one after the other, so that an agent asks little of the store however much it sees. */
class ReportQueue {
  written: Promise<void> = Promise.resolve();

  constructor(
    private readonly node: ProbeNode,
    private readonly call: HeardCall,
    private readonly place: ProbePlace,
    private readonly signal: AbortSignal,
  ) {}

  add(name: string, text: string): void {
    this.written = this.written.then(async () => {
      if (this.signal.aborted) return;
      const from = formatIpv4(this.place.publicIp);
      // A call that is down takes no more reports, and nobody waits for them.
      await this.node.board?.report(this.call, from, name, text, this.signal).catch(() => undefined);
    });
  }
}

/** Whether the packets of a call may pass here, if all goes well or if the leases are at odds. */
function concerns(call: PacketCall, place: ProbePlace): boolean {
  const { source, destination, nextHop } = call;
  return (
    nextHop === place.publicIp ||
    prefixContains(place.subnet, source) ||
    prefixContains(claimed(place, destination), destination)
  );
}

/** The subnet in which this node, by its own account, has an address: one that it lost, where that is it. */
function claimed({ subnet, formerSubnet }: ProbePlace, address: number): Ipv4Prefix {
  const lost = formerSubnet !== undefined && !prefixContains(subnet, address) && prefixContains(formerSubnet, address);
  return lost ? formerSubnet : subnet;
}

function presenceOf(place: ProbePlace, destination: number): string {
  const { trouble = null } = place;
  return formatPresence({ subnet: formatPrefix(claimed(place, destination)), trouble });
}

/** The packet as it comes out of this node's overlay device. */
function deliveredSpec(call: PacketCall): Parameters<typeof import('./kernel-finding.js').findInKernel>[0] {
  return {
    source: call.source,
    destination: call.destination,
    protocol: call.protocol,
    port: call.port === 0 ? undefined : call.port,
    ttl: 63,
    lengthBytes: IPV4_HEADER_BYTES + 64,
    dontFragment: false,
    sender: call.node,
  };
}
