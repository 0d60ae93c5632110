/** What most likely became of a packet that was not answered: the last place where it was seen, and what is known about what comes next. */
import { DROP_REASONS } from '../../dataplane/drop-reasons.js';
import { formatIpv4, parsePrefix, prefixContains } from '../../packet/address.js';
import { UDP_OVERHEAD_BYTES } from '../../packet/ipv4.js';
import { arrives } from '../doctor/probe-peers.js';
import { answerTo, sightingOf, wasAnswered, watchedWell, type Evidence, type NodeSighting } from './evidence.js';
import { wordAnswer } from './words.js';

/** One line; `null` for a packet that was answered. */
export function likelyCause(evidence: Evidence, packet: number): string | null {
  if (wasAnswered(evidence, packet)) return null;
  const { here } = evidence;
  const answer = answerTo(evidence, packet);
  if (answer !== undefined) return returnedCause(evidence, answer);
  const reply = sightingOf(evidence, packet, 'reply', 'encap');
  if (reply !== undefined) return replyLostCause(evidence, reply);
  const delivered = evidence.sightings.find(
    (one) => one.packet === packet && one.leg === 'request' && one.direction === 'decap' && one.reason === null,
  );
  if (delivered !== undefined) return unansweredCause(evidence, delivered);
  const refused = sightingOf(evidence, packet, 'request', 'decap');
  if (refused !== undefined) return refusedCause(evidence, refused);
  const left = sightingOf(evidence, packet, 'request', 'encap', here);
  if (left === undefined) return neverLeftCause(evidence, packet);
  return left.reason === null ? betweenCause(evidence) : droppedHereCause(evidence, left);
}

function neverLeftCause(evidence: Evidence, packet: number): string {
  const { here, device, deviceMtuBytes, sizeBytes, dontFragment, sent, findings, lost } = evidence;
  if (dontFragment && sizeBytes > deviceMtuBytes) {
    return `${sizeBytes} bytes do not fit into ${device}, whose MTU is ${deviceMtuBytes}, and the packet must not be fragmented`;
  }
  const known = findings.get(here);
  if (known !== undefined && known.reason !== null) {
    return `the packet did not come into ${device} of ${here}: ${known.fact} (${known.reason})`;
  }
  if (sent.get(packet)?.taken === false)
    return `this host did not send it: is there a route to ${device}, and is it up?`;
  if (evidence.masqueraded) {
    return (
      `${formatIpv4(evidence.call.source)} is outside of the Network, and masquerading (--ip-masq) puts another in its ` +
      "place, which this cannot follow: probe from an address of this node's lease"
    );
  }
  if ((lost.get(here) ?? 0) > 0) return `nothing is known: this node lost ${lost.get(here)} records, it is too busy`;
  return (
    `the packet did not come into ${device} of ${here}: a rule of this host (OUTPUT, POSTROUTING) drops or rewrites it, ` +
    `or ${device} is in trouble; flannelctl doctor looks at both`
  );
}

function droppedHereCause(evidence: Evidence, { reason }: NodeSighting): string {
  const destination = formatIpv4(evidence.call.destination);
  const meaning = meaningOf(reason);
  if (reason !== 'no-lease') return `${evidence.here} drops it: ${meaning}`;
  const claimed = claimant(evidence);
  const lost = claimed === undefined ? '' : `; ${claimed} has pods there, but the lease is gone`;
  return `no node leases the subnet of ${destination}${lost}: flannelctl leases`;
}

function refusedCause(evidence: Evidence, { node, reason, peer }: NodeSighting): string {
  const from = peer === null ? '' : ` from ${peer}`;
  const own = evidence.watching.get(node)?.subnet;
  const subnet = reason === 'foreign-destination' && own !== undefined ? ` (its subnet is ${own})` : '';
  return `${node} got the packet${from} and drops it: ${meaningOf(reason)}${subnet}`;
}

/** Encapsulated here, and not seen at the other end. */
function betweenCause(evidence: Evidence): string {
  const { here, owner, peer, port, watching, storeTrouble } = evidence;
  if (owner === null) return `${here} sent it, but to whom is not known`;
  const { node, lease } = owner;
  const between = `between ${here} and ${node}`;
  const alive = watching.has(node);
  const claimed = alive ? undefined : claimant(evidence);
  if (claimed !== undefined) {
    const trouble = watching.get(claimed)?.trouble;
    return (
      `the lease of ${lease} sends packets to ${node}, but ${claimed} is the node whose pods have it` +
      `${trouble === null || trouble === undefined ? '' : ` (${trouble})`}: release the wrong lease (flannelctl leases)`
    );
  }
  if (narrow(evidence)) return `${between}: ${narrowness(evidence)}`;
  if (peer?.port === 'refused') return `no flanneld listens at ${node}: nothing is at its UDP port ${port}`;
  if (peer?.port === 'unreachable') {
    return `${between}: ICMP says that UDP ${port} of ${node} cannot be reached: a firewall rejects it, or there is no route`;
  }
  const echoed = peer?.underlay.kind === 'reply';
  if (alive && watchedWell(evidence, node)) {
    return echoed
      ? `${between}: a firewall eats UDP ${port}, for the machine answers on the underlay and its agent watched in vain`
      : `${between}: the underlay carries nothing to ${node}, neither UDP ${port} nor ICMP, though its agent is alive: ` +
          'a firewall, or a broken path';
  }
  const unknown = storeTrouble === null ? 'its agent does not report' : 'etcd is away, so that it cannot report';
  if (peer !== undefined && arrives(peer.tunnel)) {
    return (
      `behind ${node}: the tunnel to it works (its overlay device answers) and ${unknown}: ` +
      `${formatIpv4(evidence.call.destination)} does not answer, or a rule of that host is in the way`
    );
  }
  if (peer !== undefined && !echoed) {
    return (
      `${node} does not answer on the underlay at all, and ${unknown}: the machine is down or cut off, ` +
      `or ${node} is not its address any more`
    );
  }
  return (
    `${between}: a firewall eats UDP ${port}, or the daemon there is down: ` +
    `${echoed ? 'the machine answers on the underlay, but' : 'from here'} nothing comes through the tunnel and ${unknown}`
  );
}

/** Delivered by the other agent, and no answer came into its overlay device. */
function unansweredCause(evidence: Evidence, { node }: NodeSighting): string {
  const destination = formatIpv4(evidence.call.destination);
  const found = evidence.findings.get(node);
  if (found === undefined) {
    return `${node} delivered it, and no answer came back there: ${destination}, or a rule of that host (its agent said no more)`;
  }
  if (found.reason === 'no-neighbour') return `${node} delivered it, but there is no ${destination}: ${found.fact}`;
  if (found.reason !== null) return `the kernel of ${node} drops it behind the agent: ${found.fact} (${found.reason})`;
  return (
    `${node} delivered it, and ${destination} does not answer: is it up, does it answer this protocol and port, ` +
    'and does its way back lead through the overlay?'
  );
}

function replyLostCause(evidence: Evidence, { node, reason, peer, answer, answerFrom }: NodeSighting): string {
  const { here, port } = evidence;
  const what = wordAnswer({ answer, answerFrom });
  if (reason !== null) return `the answer (${what}) is dropped by ${node}: ${meaningOf(reason)}`;
  if (peer !== null && !peer.startsWith(`${here}:`)) {
    return `${node} sends the answer to ${peer} and not to ${here}: the two do not know the same leases`;
  }
  const between = `between ${node} and ${here}, on the way back`;
  if (narrow(evidence)) return `${between}: ${narrowness(evidence)}`;
  return `${between}: the answer (${what}) was lost; the other direction works, so a firewall eats UDP ${port} towards ${here}`;
}

/** Something came back, but no word of the destination. */
function returnedCause(evidence: Evidence, answer: NodeSighting): string {
  const { here } = evidence;
  if (answer.reason !== null) return `the answer came back, and ${here} drops it: ${meaningOf(answer.reason)}`;
  const said = wordAnswer(answer);
  const from = answer.answerFrom ?? 'a node';
  if (answer.answer === 'rejected') return `a firewall rejects it, says ${from}: ${said}`;
  if (answer.answer === 'host-unreachable') {
    return `there is no ${formatIpv4(evidence.call.destination)}, says ${from}: ${said}`;
  }
  return `a router on the way cannot forward it: ${said}`;
}

/** Whether large packets are lost where small ones are not. */
function narrow({ smallAnswered, peer }: Evidence): boolean {
  return (
    smallAnswered === true ||
    (peer?.underlay.kind === 'reply' && peer.pathMtuBytes !== undefined && arrives(peer.tunnel))
  );
}

function narrowness({ sizeBytes, deviceMtuBytes, peer }: Evidence): string {
  const datagram = Math.min(sizeBytes, deviceMtuBytes) + UDP_OVERHEAD_BYTES;
  const fits = peer?.pathMtuBytes === undefined ? '' : `; ${peer.pathMtuBytes} bytes fit`;
  return (
    `the path is too narrow: small packets are answered, this one of ${datagram} bytes on the underlay is not${fits}. ` +
    'Lower the overlay\'s MTU ("MTU" in the Backend, or --mtu), or widen the underlay'
  );
}

/** A node that says of itself that it has the subnet of the destination, and is not whom packets go to. */
function claimant({ watching, owner, call }: Evidence): string | undefined {
  for (const [node, { subnet }] of watching) {
    const prefix = parsePrefix(subnet);
    if (node !== owner?.node && prefix !== undefined && prefixContains(prefix, call.destination)) return node;
  }
  return undefined;
}

function meaningOf(reason: string | null): string {
  const info = DROP_REASONS.find(({ name }) => name === reason);
  return info === undefined ? (reason ?? '') : `${info.name}: ${info.description.split(';')[0]}`;
}
