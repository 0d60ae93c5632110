/** Asks other nodes, by packets on the underlay and through the tunnel, whether and how they can be reached. */
import { createSocket } from 'node:dgram';
import type { EchoAnswer, EchoProber } from '../../host/echo-prober.js';
import { MIN_ECHO_BYTES } from '../../host/echo-prober.js';
import { formatIpv4 } from '../../packet/address.js';

/** A node to ask. */
export interface Peer {
  /** On the underlay. */
  readonly address: number;
  /** Its subnet, as text, and that subnet's first address, which its overlay device has. */
  readonly subnet: string;
  readonly overlayAddress: number;
}

/** What came of asking. */
export interface PeerFacts {
  readonly address: string;
  readonly subnet: string;
  /** A small echo request over the underlay. */
  readonly underlay: EchoAnswer;
  /** One as large as the largest datagram of the tunnel. */
  readonly large: EchoAnswer;
  /** Its size in bytes. */
  readonly largeBytes: number;
  /** The largest that gets an answer, where the large one gets none and a small one does. */
  readonly pathMtuBytes?: number;
  /** Large requests at once over the underlay, and how many of them were answered; where one alone is. */
  readonly burst?: { readonly sent: number; readonly answered: number };
  /** An echo request through the tunnel: a reply, or the other agent's word that its TTL ran out. */
  readonly tunnel: EchoAnswer;
  /** A datagram to the tunnel's port, sent only when nothing comes through the tunnel. */
  readonly port?: 'refused' | 'unreachable' | 'silence';
}

export interface ProbeOptions {
  readonly prober: EchoProber;
  /** Bytes of the largest datagram: the overlay's MTU and its outer headers. */
  readonly largeBytes: number;
  readonly port: number;
}

const TIMEOUT_MS = 1000;
const ATTEMPTS = 3;
const SMALL_BYTES = 64;
const BURST = 20;
/** Requests under way at once while a path's MTU is searched for. */
const SEARCH_WIDTH = 8;
/** The host's own hop, then the other agent's, where the TTL runs out: no firewall of that host is asked. */
export const TTL_TO_OTHER_AGENT = 2;

/** Asks several nodes, a few at a time. */
export async function probePeers(peers: readonly Peer[], options: ProbeOptions, atOnce = 16): Promise<PeerFacts[]> {
  const facts: PeerFacts[] = [];
  const waiting = peers.entries();
  const worker = async (): Promise<void> => {
    for (const [index, peer] of waiting) facts[index] = await probePeer(peer, options);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return facts;
}

async function probePeer(peer: Peer, { prober, largeBytes, port }: ProbeOptions): Promise<PeerFacts> {
  const { address, subnet, overlayAddress } = peer;
  const ask = (totalBytes: number): Promise<EchoAnswer> =>
    untilAnswered(() => prober.echo({ destination: address, totalBytes, timeoutMs: TIMEOUT_MS }));
  const [underlay, large, tunnel] = await Promise.all([
    ask(SMALL_BYTES),
    ask(largeBytes),
    throughTunnel(prober, overlayAddress),
  ]);
  const facts = { address: formatIpv4(address), subnet, underlay, large, largeBytes, tunnel };
  const [pathMtuBytes, burst, portAnswer] = await Promise.all([
    underlay.kind === 'reply' && large.kind !== 'reply' ? searchLargestEcho(prober, address, largeBytes) : undefined,
    large.kind === 'reply' ? burstTo(prober, address, largeBytes) : undefined,
    arrives(tunnel) ? undefined : knock(address, port),
  ]);
  return { ...facts, pathMtuBytes, burst, port: portAnswer };
}

/** Whether an answer proves that a request got to the other end. */
export function arrives({ kind }: EchoAnswer): boolean {
  return kind === 'reply' || kind === 'time-exceeded';
}

/** The first answer of a few attempts: the very first packet to a node may get lost while its address is resolved. */
async function untilAnswered(ask: () => Promise<EchoAnswer>): Promise<EchoAnswer> {
  for (let attempt = 1; ; attempt++) {
    const answer = await ask();
    if (answer.kind !== 'silence' || attempt === ATTEMPTS) return answer;
  }
}

async function throughTunnel(prober: EchoProber, destination: number): Promise<EchoAnswer> {
  return untilAnswered(async () => {
    const answers = await Promise.all(
      [64, TTL_TO_OTHER_AGENT].map((ttl) =>
        prober.echo({ destination, totalBytes: SMALL_BYTES, ttl, timeoutMs: TIMEOUT_MS }),
      ),
    );
    return answers.find(arrives) ?? answers[0];
  });
}

/** The largest request that is answered, between the smallest there is and one that was not. */
export async function searchLargestEcho(prober: EchoProber, destination: number, tooLarge: number): Promise<number> {
  let [fits, fails] = [SMALL_BYTES, tooLarge];
  while (fails - fits > 1) {
    const step = Math.max(1, Math.ceil((fails - fits) / (SEARCH_WIDTH + 1)));
    const sizes = Array.from({ length: SEARCH_WIDTH }, (_, index) => fits + (index + 1) * step).filter(
      (size) => size < fails,
    );
    const answers = await Promise.all(
      sizes.map((totalBytes) => prober.echo({ destination, totalBytes, timeoutMs: TIMEOUT_MS })),
    );
    const largest = sizes.findLast((_, index) => answers[index].kind === 'reply');
    const smallest = sizes.find((size, index) => answers[index].kind !== 'reply' && size > (largest ?? 0));
    if (largest === undefined && smallest === undefined) break;
    fits = largest ?? fits;
    fails = smallest ?? fails;
  }
  return Math.max(fits, MIN_ECHO_BYTES);
}

/** Two bursts, of which the better counts: one that loses may have met other traffic. */
async function burstTo(
  prober: EchoProber,
  destination: number,
  totalBytes: number,
): Promise<{ sent: number; answered: number }> {
  let best = 0;
  for (let attempt = 1; attempt <= 2 && best < BURST; attempt++) {
    const requests = Array.from({ length: BURST }, () =>
      prober.echo({ destination, totalBytes, timeoutMs: 2 * TIMEOUT_MS }),
    );
    const answers = await Promise.all(requests);
    best = Math.max(best, answers.filter(({ kind }) => kind === 'reply').length);
  }
  return { sent: BURST, answered: best };
}

/** An empty datagram to the tunnel's port: ICMP says so when nobody listens there; one who does says nothing. */
function knock(address: number, port: number): Promise<'refused' | 'unreachable' | 'silence'> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    const settle = (answer: 'refused' | 'unreachable' | 'silence'): void => {
      clearTimeout(timer);
      socket.removeAllListeners();
      socket.on('error', () => undefined);
      socket.close();
      resolve(answer);
    };
    const timer = setTimeout(() => settle('silence'), TIMEOUT_MS);
    const failed = (error: Error): void =>
      settle((error as NodeJS.ErrnoException).code === 'ECONNREFUSED' ? 'refused' : 'unreachable');
    socket.on('error', failed);
    socket.connect(port, formatIpv4(address), () => {
      socket.send(Buffer.alloc(0), (error) => error !== null && failed(error));
    });
  });
}
