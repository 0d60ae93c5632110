/** The ways to the other nodes, told from packets that were sent there. */
import { describeEcho } from '../../host/echo-prober.js';
import { UDP_OVERHEAD_BYTES } from '../../packet/ipv4.js';
import { fail, ok, skip, warn, type Finding } from './check.js';
import type { NodeFacts } from './facts.js';
import { arrives, type PeerFacts } from './probe-peers.js';

type PathFacts = Pick<NodeFacts, 'peers' | 'leases' | 'status'>;

/** A share of a burst that a path may lose: an ordinary network loses none. */
const TOLERATED_LOSS = 0.1;

/** The nodes that were asked, or why none was. */
function askedPeers({ peers }: PathFacts): readonly PeerFacts[] | Finding {
  if (!peers.known) return skip(peers.why);
  return peers.value.length === 0 ? skip('no other node holds a lease') : peers.value;
}

function name({ address, subnet }: PeerFacts): string {
  return `${address} (${subnet})`;
}

function wordNodes(peers: readonly PeerFacts[]): string {
  return peers.length === 1 ? '1 node' : `${peers.length} nodes`;
}

/** Whether anything at all came back from a node. */
function isAlive({ underlay, large, tunnel, port }: PeerFacts): boolean {
  return [underlay, large].some(({ kind }) => kind === 'reply') || arrives(tunnel) || port === 'refused';
}

export function checkPeers(facts: PathFacts): Finding {
  const peers = askedPeers(facts);
  if ('status' in peers) return peers;
  const others = facts.leases.known ? facts.leases.value.filter(({ own }) => !own).length : peers.length;
  const some = peers.length < others ? ` (${peers.length} of ${others} were asked)` : '';
  const dead = peers.filter((peer) => !isAlive(peer));
  if (dead.length === 0) return ok(`every other node answers${some}`, peers.map(describePeer));
  const all = dead.length === peers.length;
  return fail(
    `${all ? 'no other node answers' : `no answer from ${dead.map(name).join(', ')}`}${some}`,
    all
      ? "look at this node's own cable and addresses first: ip route get, ip neigh, ping"
      : 'is the machine up, and its address still the PublicIP of its lease? A lease left over: flannelctl leases release',
    dead.map(describePeer),
  );
}

function describePeer(peer: PeerFacts): string {
  return `${name(peer)}: underlay ${describeEcho(peer.underlay)}; tunnel ${describeEcho(peer.tunnel)}`;
}

export function checkTunnel(facts: PathFacts): Finding {
  const peers = askedPeers(facts);
  if ('status' in peers) return peers;
  const alive = peers.filter(isAlive);
  if (alive.length === 0) return skip('no other node answers at all');
  const broken = alive.filter(({ tunnel }) => !arrives(tunnel));
  if (broken.length === 0) {
    return ok(`packets go through the tunnel and back: ${wordNodes(alive)}`, alive.map(describePeer));
  }
  if (facts.status.known && facts.status.value.lease === undefined) {
    return skip('this node has lost its subnet, so that the others drop what it sends: see the check "lease"');
  }
  const refusing = broken.filter(({ port }) => port === 'refused');
  if (refusing.length === broken.length) {
    return fail(
      `no flanneld listens at ${refusing.map(name).join(', ')}`,
      'start it there; on another port, every node must have the same Backend.Port',
      refusing.map((peer) => `${name(peer)}: ICMP says that nobody listens on its port`),
    );
  }
  const rejected = broken.filter(({ port }) => port === 'unreachable').map(name);
  const how = rejected.length > 0 ? `; ${rejected.join(', ')} says so with ICMP` : '';
  return fail(
    `the tunnel's UDP port is filtered between here and ${broken.map(name).join(', ')}${how}`,
    'the check "firewall-tunnel" tells of rules here; run doctor there as well, and look at what lies in between',
    broken.map(
      (peer) =>
        `${describePeer(peer)}; a datagram to its port: ${peer.port ?? 'not sent'} (an open port and a dropping filter both say nothing)`,
    ),
  );
}

export function checkPathMtu(facts: PathFacts): Finding {
  const peers = askedPeers(facts);
  if ('status' in peers) return peers;
  const asked = peers.filter(({ underlay, large }) => underlay.kind === 'reply' || large.kind === 'reply');
  if (asked.length === 0) return skip('no other node answers ICMP echo requests');
  const narrow = asked.filter(({ large }) => large.kind !== 'reply');
  const [{ largeBytes }] = asked;
  if (narrow.length === 0) return ok(`datagrams of ${largeBytes} bytes arrive: ${wordNodes(asked)}`);
  const least = Math.min(...narrow.map(({ pathMtuBytes }) => pathMtuBytes ?? largeBytes));
  const fits = least - UDP_OVERHEAD_BYTES;
  return fail(
    `the path is narrower than the overlay's MTU: to ${narrow.map(name).join(', ')} only ${least} bytes fit, not ${largeBytes}`,
    `set "MTU": ${fits} in the network configuration's Backend, or --mtu ${fits}, or widen the underlay; then restart the agents`,
    narrow.map(
      (peer) => `${name(peer)}: ${peer.largeBytes} bytes: ${describeEcho(peer.large)}; ${peer.pathMtuBytes ?? '?'} fit`,
    ),
  );
}

export function checkPathLoss(facts: PathFacts): Finding {
  const peers = askedPeers(facts);
  if ('status' in peers) return peers;
  const tried = peers.flatMap((peer) => (peer.burst === undefined ? [] : [{ peer, burst: peer.burst }]));
  if (tried.length === 0) return skip('no other node answers large ICMP echo requests');
  const lossy = tried.filter(({ burst }) => burst.answered < burst.sent * (1 - TOLERATED_LOSS));
  const evidence = (of: typeof tried): string[] =>
    of.map(({ peer, burst }) => `${name(peer)}: ${burst.answered} of ${burst.sent} came back`);
  if (lossy.length === 0) return ok('bursts of large packets come back whole', evidence(tried));
  return warn(
    `bursts of large packets get lost on the way to ${lossy.map(({ peer }) => name(peer)).join(', ')}`,
    'a rate limit, a full queue or a bad cable in between: tc -s qdisc and ip -s link on both ends and on the way',
    evidence(lossy),
  );
}
