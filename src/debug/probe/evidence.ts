import type { PeerFacts } from '../doctor/probe-peers.js';
import type { PacketCall } from './probe-call.js';
import { REACHED } from './probe-packet.js';
import type { KernelFinding, Presence, Sighting } from './sighting.js';

/** A sighting, and whose. */
export interface NodeSighting extends Sighting {
  readonly node: string;
}

/** What a node was asked to report, and does. */
export interface Watching extends Presence {
  /** Whether it watched before the first packet was sent: only then does what it has not seen mean something. */
  readonly inTime: boolean;
}

/** Everything that is known of a probe: what hops and the likely cause are made of. */
export interface Evidence {
  /** The public address of this node. */
  readonly here: string;
  readonly call: PacketCall;
  readonly sizeBytes: number;
  readonly dontFragment: boolean;
  readonly device: string;
  readonly deviceMtuBytes: number;
  /** Of the tunnel. */
  readonly port: number;
  /** Whether the source is one that `--ip-masq` replaces: outside of the Network. */
  readonly masqueraded: boolean;
  /** Whom this node sends the packets to, and the lease that says so; `null` where no node leases the destination. */
  readonly owner: { readonly node: string; readonly lease: string } | null;
  /** By packet: when this host took it, or that it did not. */
  readonly sent: ReadonlyMap<number, { readonly taken: boolean; readonly time: string }>;
  readonly sightings: readonly NodeSighting[];
  readonly watching: ReadonlyMap<string, Watching>;
  /** What hosts say of packets that nobody answered; this node's own of one that did not come into the overlay device. */
  readonly findings: ReadonlyMap<string, KernelFinding>;
  /** Records that taps lost meanwhile, by node. */
  readonly lost: ReadonlyMap<string, number>;
  /** Why the store could not be asked; `null` when it could. */
  readonly storeTrouble: string | null;
  /** The next hop, asked over the underlay and through the tunnel after packets were lost. */
  readonly peer?: PeerFacts;
  /** Whether a small packet was answered where a large one was not. */
  readonly smallAnswered?: boolean;
}

/** The first sighting of a packet on one leg in one direction: at any node, or at one. */
export function sightingOf(
  { sightings }: Pick<Evidence, 'sightings'>,
  packet: number,
  leg: Sighting['leg'],
  direction: Sighting['direction'],
  node?: string,
): NodeSighting | undefined {
  return sightings.find(
    (one) =>
      one.packet === packet &&
      one.leg === leg &&
      one.direction === direction &&
      (node === undefined || one.node === node),
  );
}

/** The answer as this node let it in. */
export function answerTo(evidence: Evidence, packet: number): NodeSighting | undefined {
  const { sightings, here } = evidence;
  const answers = sightings.filter(
    (one) => one.packet === packet && one.leg === 'reply' && one.direction === 'decap' && one.node === here,
  );
  // An error may come before the answer proper: of a packet that was first too large for the path, for one.
  const good = answers.find(({ reason, answer }) => reason === null && answer !== null && REACHED.has(answer));
  return good ?? answers[0];
}

/** Whether a packet got to the destination and the answer back to this node. */
export function wasAnswered(evidence: Evidence, packet: number): boolean {
  const found = answerTo(evidence, packet);
  return found?.reason === null && found.answer !== null && REACHED.has(found.answer);
}

/** Whether the next hop watched all the while, so that what it did not see did not come. */
export function watchedWell({ watching, lost }: Evidence, node: string): boolean {
  return watching.get(node)?.inTime === true && (lost.get(node) ?? 0) === 0;
}
