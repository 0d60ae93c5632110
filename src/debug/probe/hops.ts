/** The way of one packet, hop by hop. The order is that of the path: clocks of different nodes are never compared. */
import type { Hop, HopPoint } from '../../observe/probe-protocol.js';
import { formatIpv4 } from '../../packet/address.js';
import { answerTo, sightingOf, wasAnswered, type Evidence, type NodeSighting } from './evidence.js';
import { wordAnswer } from './words.js';

/** The hops of packet `packet`: what was seen, and between them who cannot tell. */
export function hopsOf(evidence: Evidence, packet: number): Hop[] {
  const { owner, here } = evidence;
  const hops = [...leaving(evidence, packet)];
  const outward = seen(evidence, packet, 'request', 'encap');
  const inward = seen(evidence, packet, 'request', 'decap');
  for (const one of outward) hops.push(encapsulated(one, 'encapsulated', ''));
  for (const one of inward) hops.push(...received(one));
  const forwarded = outward.some(({ reason }) => reason === null);
  if (forwarded && inward.length === 0 && owner !== null) hops.push(...silent(evidence, owner.node));
  hops.push(...findings(evidence, packet));
  for (const one of seen(evidence, packet, 'reply', 'encap')) {
    hops.push(encapsulated(one, 'reply-encapsulated', `${wordAnswer(one)}, `));
  }
  const answer = answerTo(evidence, packet);
  if (answer !== undefined) hops.push(...returned(answer, here));
  return hops;
}

function* leaving({ sent, here, call, device }: Evidence, packet: number): Generator<Hop> {
  const left = sent.get(packet);
  if (left === undefined) return;
  const { taken, time } = left;
  yield {
    node: here,
    point: 'sent',
    verdict: taken ? 'sent' : 'dropped',
    reason: taken ? null : 'not-sent',
    time,
    detail: taken
      ? `from ${formatIpv4(call.source)} by this host's routes, towards ${device}`
      : 'the kernel of this host did not take it',
  };
}

/** All sightings of a kind, this node's own first, each node once. */
function seen(
  evidence: Evidence,
  packet: number,
  leg: NodeSighting['leg'],
  direction: NodeSighting['direction'],
): readonly NodeSighting[] {
  const nodes = new Set(evidence.sightings.map(({ node }) => node));
  const others = [...nodes].filter((node) => node !== evidence.here).sort();
  return [evidence.here, ...others].flatMap((node) => {
    const found = sightingOf(evidence, packet, leg, direction, node);
    return found === undefined ? [] : [found];
  });
}

function encapsulated(one: NodeSighting, point: HopPoint, what: string): Hop {
  const { node, reason, peer, lease, time } = one;
  const byLease = lease === null ? '' : ` by lease ${lease}`;
  return {
    node,
    point,
    verdict: reason === null ? 'forwarded' : 'dropped',
    reason,
    time,
    detail: reason === null ? `${what}to ${peer ?? 'nobody'}${byLease}` : `${what}dropped: ${reason}`,
  };
}

function received({ node, reason, peer, time }: NodeSighting): readonly Hop[] {
  const from = peer === null ? '' : `from ${peer}`;
  return [
    { node, point: 'received', verdict: 'received', reason: null, time, detail: from },
    {
      node,
      point: 'delivered',
      verdict: reason === null ? 'delivered' : 'dropped',
      reason,
      time,
      detail: reason === null ? 'to the kernel there, towards the pod' : `dropped: ${reason}`,
    },
  ];
}

/** The next hop did not see a packet that was sent to it: that means something only if it watched. */
function silent(evidence: Evidence, node: string): readonly Hop[] {
  const { watching, storeTrouble } = evidence;
  if (watching.get(node)?.inTime === true) return [];
  const why =
    storeTrouble !== null
      ? 'etcd is away, by which it would report'
      : watching.has(node)
        ? 'its agent began to watch too late'
        : 'it does not report: a flannel, an agent of another release, or one that is down or away from etcd';
  return [{ node, point: 'unreported', verdict: 'unknown', reason: 'no-report', time: null, detail: why }];
}

/** What the host says, behind the agent, of a packet without an answer. */
function findings(evidence: Evidence, packet: number): readonly Hop[] {
  if (wasAnswered(evidence, packet)) return [];
  return [...evidence.findings].map(([node, { reason, fact }]) => ({
    node,
    point: 'kernel' as const,
    verdict: reason === null ? ('unknown' as const) : ('dropped' as const),
    reason,
    time: null,
    detail: fact,
  }));
}

function returned(answer: NodeSighting, here: string): readonly Hop[] {
  const { reason, peer, time } = answer;
  const from = peer === null ? '' : `, from ${peer}`;
  return [
    {
      node: here,
      point: 'reply-received',
      verdict: 'received',
      reason: null,
      time,
      detail: `${wordAnswer(answer)}${from}`,
    },
    {
      node: here,
      point: 'reply-delivered',
      verdict: reason === null ? 'delivered' : 'dropped',
      reason,
      time,
      detail: reason === null ? 'to the kernel here, towards the pod' : `dropped: ${reason}`,
    },
  ];
}
