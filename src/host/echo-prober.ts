/**
 * Echo requests (RFC 792) of a given size and TTL that must not be fragmented, and what comes back: the reply, or an ICMP
 * error about the request. A path MTU that the kernel has learnt earlier does not hold them back, so that each is a test
 * of the path as it is now.
 */
import { randomInt } from 'node:crypto';
import type { Socket } from 'raw-socket';
import { errorMessage, FlannelError } from '../errors.js';
import { formatIpv4, parseIpv4 } from '../packet/address.js';
import { checksum } from '../packet/checksum.js';
import {
  CODE_FRAGMENTATION_NEEDED,
  ICMP_ECHO_REPLY,
  ICMP_ECHO_REQUEST,
  ICMP_TIME_EXCEEDED,
  ICMP_UNREACHABLE,
} from '../packet/icmp.js';
import {
  FLAG_DONT_FRAGMENT,
  IPV4_HEADER_BYTES,
  ipv4HeaderBytes,
  ipv4Protocol,
  ipv4Shape,
  PROTOCOL_ICMP,
  writeIpv4Header,
} from '../packet/ipv4.js';
import { RawSender } from './raw-sender.js';

/** An ICMP message has 8 bytes before its data. */
const ICMP_HEADER_BYTES = 8;

const GRACE_MS = 50;

/** The smallest request that can be told from others. */
export const MIN_ECHO_BYTES = IPV4_HEADER_BYTES + ICMP_HEADER_BYTES;

export interface EchoRequest {
  readonly destination: number;
  /** Of the whole IPv4 packet, {@link MIN_ECHO_BYTES} or more. */
  readonly totalBytes: number;
  readonly ttl?: number;
  readonly timeoutMs: number;
}

/** What came of a request. */
export type EchoAnswer =
  | { readonly kind: 'reply'; readonly roundTripMs: number }
  /** Somebody on the way has no room; `mtuBytes` is 0 when he does not say how much there is (RFC 1191). */
  | { readonly kind: 'too-big'; readonly from: number; readonly mtuBytes: number }
  | { readonly kind: 'time-exceeded'; readonly from: number }
  | { readonly kind: 'unreachable'; readonly from: number; readonly code: number }
  | { readonly kind: 'silence' }
  /** The kernel would not send it: no route, larger than the device's MTU, a firewall rule. */
  | { readonly kind: 'not-sent' };

interface Waiting {
  readonly destination: number;
  readonly sentAtMs: number;
  readonly settle: (answer: EchoAnswer) => void;
}

/** Sends requests side by side and tells their answers apart by identifier and sequence number. Wants CAP_NET_RAW. */
export class EchoProber {
  private readonly identifier = randomInt(1, 0x10000);
  private readonly waiting = new Map<number, Waiting>();
  private sequence = 0;

  private constructor(
    private readonly sender: RawSender,
    private readonly receiver: Socket,
  ) {
    receiver.on('message', (packet: Buffer, source: string) => this.receive(packet, parseIpv4(source) ?? 0));
    // A failed receive ends the socket; what is under way then counts as silence.
    receiver.on('error', () => undefined);
  }

  /** @throws FlannelError `HOST` when raw sockets are not to be had (root) */
  static async open(): Promise<EchoProber> {
    try {
      const sender = await RawSender.open();
      const { default: module } = await import('raw-socket');
      return new EchoProber(sender, module.createSocket({ protocol: PROTOCOL_ICMP, bufferSize: 65536 }));
    } catch (error) {
      throw new FlannelError('HOST', `echo requests cannot be sent: ${errorMessage(error)}`, { cause: error });
    }
  }

  /** Sends one and waits for what comes of it. Never rejects. */
  echo({ destination, totalBytes, ttl = 64, timeoutMs }: EchoRequest): Promise<EchoAnswer> {
    const sequence = (this.sequence = (this.sequence + 1) & 0xffff);
    const packet = Buffer.alloc(totalBytes);
    // The kernel fills in the source, which it chooses by the route (raw(7)).
    writeIpv4Header(packet, 0, {
      totalBytes,
      protocol: PROTOCOL_ICMP,
      source: 0,
      destination,
      ttl,
      fragmentWord: FLAG_DONT_FRAGMENT,
    });
    packet[IPV4_HEADER_BYTES] = ICMP_ECHO_REQUEST;
    packet.writeUInt16BE(this.identifier, IPV4_HEADER_BYTES + 4);
    packet.writeUInt16BE(sequence, IPV4_HEADER_BYTES + 6);
    packet.writeUInt16BE(checksum(packet, IPV4_HEADER_BYTES, totalBytes - IPV4_HEADER_BYTES), IPV4_HEADER_BYTES + 2);
    return new Promise((resolve) => {
      const settle = (answer: EchoAnswer): void => {
        clearTimeout(timer);
        if (this.waiting.delete(sequence)) resolve(answer);
      };
      // A process that was held up finds its timers due before it has read what came meanwhile: that gets a chance.
      const silence = (): void => settle({ kind: 'silence' });
      let timer = setTimeout(() => (timer = setTimeout(silence, GRACE_MS)), timeoutMs);
      this.waiting.set(sequence, { destination, sentAtMs: performance.now(), settle });
      this.sender.send(packet, (sent) => {
        if (!sent) settle({ kind: 'not-sent' });
      });
    });
  }

  close(): void {
    this.sender.close();
    this.receiver.close();
    for (const { settle } of this.waiting.values()) settle({ kind: 'silence' });
  }

  private receive(packet: Buffer, from: number): void {
    if (ipv4Shape(packet, 0, packet.length) !== 'ok') return;
    const icmp = ipv4HeaderBytes(packet, 0);
    if (packet.length < icmp + ICMP_HEADER_BYTES) return;
    const type = packet[icmp];
    if (type === ICMP_ECHO_REPLY) {
      const asked = this.find(packet, icmp);
      if (asked?.destination === from) {
        asked.settle({ kind: 'reply', roundTripMs: performance.now() - asked.sentAtMs });
      }
      return;
    }
    if (type !== ICMP_UNREACHABLE && type !== ICMP_TIME_EXCEEDED) return;
    // What the error is about follows its header: the beginning of the request.
    const quoted = icmp + ICMP_HEADER_BYTES;
    if (packet.length < quoted + MIN_ECHO_BYTES || ipv4Protocol(packet, quoted) !== PROTOCOL_ICMP) return;
    const request = quoted + ipv4HeaderBytes(packet, quoted);
    if (packet.length < request + ICMP_HEADER_BYTES || packet[request] !== ICMP_ECHO_REQUEST) return;
    const asked = this.find(packet, request);
    const code = packet[icmp + 1];
    if (type === ICMP_TIME_EXCEEDED) asked?.settle({ kind: 'time-exceeded', from });
    else if (code !== CODE_FRAGMENTATION_NEEDED) asked?.settle({ kind: 'unreachable', from, code });
    else asked?.settle({ kind: 'too-big', from, mtuBytes: packet.readUInt16BE(icmp + 6) });
  }

  private find(packet: Buffer, icmp: number): Waiting | undefined {
    if (packet.readUInt16BE(icmp + 4) !== this.identifier) return undefined;
    return this.waiting.get(packet.readUInt16BE(icmp + 6));
  }
}

/** An answer in words: `a reply after 0.4 ms`. */
export function describeEcho(answer: EchoAnswer): string {
  switch (answer.kind) {
    case 'reply':
      return `a reply after ${answer.roundTripMs.toFixed(1)} ms`;
    case 'too-big': {
      const room = answer.mtuBytes === 0 ? '' : `, ${answer.mtuBytes} bytes fit`;
      return `${formatIpv4(answer.from)} says that it is too big${room}`;
    }
    case 'time-exceeded':
      return `${formatIpv4(answer.from)} says that its TTL ran out`;
    case 'unreachable':
      return `${formatIpv4(answer.from)} says that it is unreachable (code ${answer.code})`;
    case 'silence':
      return 'no answer';
    case 'not-sent':
      return 'this host could not send it';
  }
}
