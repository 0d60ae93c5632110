/**
 * The packets of a probe, built and recognised: by addresses, ports and IP identification; what answers them by the same
 * the other way round, or by what an ICMP error quotes.
 */
import { randomBytes } from 'node:crypto';
import { checksumAdd, checksumFinish } from '../../packet/checksum.js';
import { ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, ICMP_TIME_EXCEEDED, ICMP_UNREACHABLE } from '../../packet/icmp.js';
import {
  FLAG_DONT_FRAGMENT,
  FRAGMENT_OFFSET_MASK,
  IPV4_HEADER_BYTES,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  UDP_HEADER_BYTES,
  ipv4Destination,
  ipv4FragmentWord,
  ipv4HeaderBytes,
  ipv4Protocol,
  ipv4Source,
  writeIpv4Header,
} from '../../packet/ipv4.js';
import type { PacketCall } from './probe-call.js';

/** What can come back. Those of {@link REACHED} prove that the destination got the packet. */
export const ANSWERS = [
  'echo-reply',
  'udp-reply',
  'syn-ack',
  'rst',
  'port-unreachable',
  'protocol-unreachable',
  'rejected',
  'host-unreachable',
  'net-unreachable',
  'fragmentation-needed',
  'ttl-exceeded',
] as const;
export type Answer = (typeof ANSWERS)[number];

/** Answers of the destination itself. */
export const REACHED: ReadonlySet<Answer> = new Set<Answer>([
  'echo-reply',
  'udp-reply',
  'syn-ack',
  'rst',
  'port-unreachable',
  'protocol-unreachable',
]);

/** What a packet is to a call. */
export interface Recognised {
  /** Which of the call's packets. */
  readonly packet: number;
  /** What it is, when it is an answer. */
  readonly answer?: Answer;
  /** Who answered. */
  readonly from: number;
}

const TCP_HEADER_BYTES = 20;
const TCP_SYN = 0x02;
const TCP_RST = 0x04;
const TCP_ACK = 0x10;
const TCP_WINDOW_BYTES = 1024;
const ICMP_HEADER_BYTES = 8;
/** Ports, or identifier and sequence number: what the first eight bytes of a payload tell. */
const QUOTED_BYTES = 8;

// Codes of ICMP_UNREACHABLE (RFC 792, RFC 1122, RFC 1812).
const NET_CODES: ReadonlySet<number> = new Set([0, 6, 11]);
const PROTOCOL_CODE = 2;
const PORT_CODE = 3;
const FRAGMENTATION_CODE = 4;
/** "Administratively prohibited", in its several forms. */
const PROHIBITED_CODES: ReadonlySet<number> = new Set([9, 10, 13]);

/** Packet `index` of a call, `totalBytes` long: an echo request, a datagram or a SYN. */
export function buildProbePacket(
  call: PacketCall,
  index: number,
  { totalBytes, dontFragment }: { readonly totalBytes: number; readonly dontFragment: boolean },
): Buffer {
  const packet = Buffer.alloc(totalBytes);
  writeIpv4Header(packet, 0, {
    totalBytes,
    protocol: call.protocol,
    source: call.source,
    destination: call.destination,
    identification: call.firstIdentification + index,
    fragmentWord: dontFragment ? FLAG_DONT_FRAGMENT : 0,
  });
  const transport = packet.subarray(IPV4_HEADER_BYTES);
  if (call.protocol === PROTOCOL_ICMP) {
    transport[0] = ICMP_ECHO_REQUEST;
    transport.writeUInt16BE(call.firstPort, 4);
    transport.writeUInt16BE(index, 6);
    transport.writeUInt16BE(checksumFinish(checksumAdd(transport, 0, transport.length)), 2);
    return packet;
  }
  transport.writeUInt16BE(call.firstPort + index, 0);
  transport.writeUInt16BE(call.port, 2);
  const tcp = call.protocol === PROTOCOL_TCP;
  if (tcp) {
    randomBytes(4).copy(transport, 4);
    transport[12] = (TCP_HEADER_BYTES / 4) << 4;
    transport[13] = TCP_SYN;
    transport.writeUInt16BE(TCP_WINDOW_BYTES, 14);
  } else {
    transport.writeUInt16BE(transport.length, 4);
  }
  // The pseudo header (RFC 768, RFC 9293): addresses, protocol, length.
  const pseudo = checksumAdd(packet, 12, 8, call.protocol + transport.length);
  const sum = checksumFinish(checksumAdd(transport, 0, transport.length, pseudo));
  transport.writeUInt16BE(sum === 0 && !tcp ? 0xffff : sum, tcp ? 16 : 6);
  return packet;
}

/**
 * Says what a packet is to a call; `undefined` when it has nothing to do with it.
 * @param packet - its beginning, which may be anything
 */
export function recognise(call: PacketCall, packet: Buffer): Recognised | undefined {
  if (packet.length < IPV4_HEADER_BYTES || packet[0] >>> 4 !== 4) return undefined;
  const { source, destination } = call;
  const from = ipv4Source(packet, 0);
  const to = ipv4Destination(packet, 0);
  if (from === source && to === destination) {
    const index = requestIndex(call, packet, 0);
    return index === undefined ? undefined : { packet: index, from };
  }
  if (to !== source || (ipv4FragmentWord(packet, 0) & FRAGMENT_OFFSET_MASK) !== 0) return undefined;
  const transport = ipv4HeaderBytes(packet, 0);
  if (packet.length < transport + QUOTED_BYTES) return undefined;
  if (ipv4Protocol(packet, 0) === PROTOCOL_ICMP) {
    const quoted = quotedIndex(call, packet, transport);
    if (quoted !== undefined) return { packet: quoted, from, answer: errorAnswer(call, packet, transport, from) };
  }
  if (from !== destination || ipv4Protocol(packet, 0) !== call.protocol) return undefined;
  const answer = directAnswer(call, packet, transport);
  return answer && { ...answer, from };
}

/** Which packet of the call begins at `at`, whole or quoted. */
function requestIndex(call: PacketCall, packet: Buffer, at: number): number | undefined {
  if (ipv4Protocol(packet, at) !== call.protocol) return undefined;
  if ((ipv4FragmentWord(packet, at) & FRAGMENT_OFFSET_MASK) !== 0) return undefined;
  const transport = at + ipv4HeaderBytes(packet, at);
  if (packet.length < transport + QUOTED_BYTES) return undefined;
  const index = packet.readUInt16BE(at + 4) - call.firstIdentification;
  if (index < 0 || index >= call.packets) return undefined;
  const [first, second] = [packet.readUInt16BE(transport), packet.readUInt16BE(transport + 2)];
  if (call.protocol !== PROTOCOL_ICMP)
    return first === call.firstPort + index && second === call.port ? index : undefined;
  const [identifier, sequence] = [packet.readUInt16BE(transport + 4), packet.readUInt16BE(transport + 6)];
  const isEcho = packet[transport] === ICMP_ECHO_REQUEST;
  return isEcho && identifier === call.firstPort && sequence === index ? index : undefined;
}

/** Which packet of the call an ICMP error is about. */
function quotedIndex(call: PacketCall, packet: Buffer, icmp: number): number | undefined {
  if (packet[icmp] !== ICMP_UNREACHABLE && packet[icmp] !== ICMP_TIME_EXCEEDED) return undefined;
  const at = icmp + ICMP_HEADER_BYTES;
  if (packet.length < at + IPV4_HEADER_BYTES || packet[at] >>> 4 !== 4) return undefined;
  if (ipv4Source(packet, at) !== call.source || ipv4Destination(packet, at) !== call.destination) return undefined;
  return requestIndex(call, packet, at);
}

function errorAnswer(call: PacketCall, packet: Buffer, icmp: number, from: number): Answer {
  if (packet[icmp] === ICMP_TIME_EXCEEDED) return 'ttl-exceeded';
  const code = packet[icmp + 1];
  // Firewalls reject in the words of the destination, but from their own address.
  if (code === PORT_CODE) return from === call.destination ? 'port-unreachable' : 'rejected';
  if (code === PROTOCOL_CODE) return from === call.destination ? 'protocol-unreachable' : 'rejected';
  if (PROHIBITED_CODES.has(code)) return 'rejected';
  if (code === FRAGMENTATION_CODE) return 'fragmentation-needed';
  return NET_CODES.has(code) ? 'net-unreachable' : 'host-unreachable';
}

function directAnswer(
  call: PacketCall,
  packet: Buffer,
  transport: number,
): { readonly packet: number; readonly answer: Answer } | undefined {
  if (call.protocol === PROTOCOL_ICMP) {
    const index = packet.readUInt16BE(transport + 6);
    const isReply = packet[transport] === ICMP_ECHO_REPLY && packet.readUInt16BE(transport + 4) === call.firstPort;
    return isReply && index < call.packets ? { packet: index, answer: 'echo-reply' } : undefined;
  }
  const index = packet.readUInt16BE(transport + 2) - call.firstPort;
  if (packet.readUInt16BE(transport) !== call.port || index < 0 || index >= call.packets) return undefined;
  if (call.protocol !== PROTOCOL_TCP) return { packet: index, answer: 'udp-reply' };
  if (packet.length < transport + TCP_HEADER_BYTES) return undefined;
  const flags = packet[transport + 13];
  if ((flags & TCP_RST) !== 0) return { packet: index, answer: 'rst' };
  return (flags & (TCP_SYN | TCP_ACK)) === (TCP_SYN | TCP_ACK) ? { packet: index, answer: 'syn-ack' } : undefined;
}

/** Bytes of a packet that suffice to recognise it: both headers with options, and those of a quoted packet. */
export const RECOGNISED_BYTES = 60 + UDP_HEADER_BYTES + 60 + QUOTED_BYTES;
