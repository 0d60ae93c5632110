/**
 * ICMP errors as a router sends them: RFC 792 for the format, RFC 1122 (3.2.2) and RFC 1812 (4.3.2) for when and how,
 * RFC 1191 for the next hop's MTU.
 */
import { checksum } from './checksum.js';
import {
  FRAGMENT_OFFSET_MASK,
  IPV4_HEADER_BYTES,
  PROTOCOL_ICMP,
  ipv4Destination,
  ipv4FragmentWord,
  ipv4HeaderBytes,
  ipv4Protocol,
  ipv4Source,
  ipv4TotalBytes,
  isMulticast,
  isReserved,
  isUnicastHost,
  writeIpv4Header,
} from './ipv4.js';

export const ICMP_ECHO_REPLY = 0;
export const ICMP_UNREACHABLE = 3;
export const ICMP_ECHO_REQUEST = 8;
export const ICMP_TIME_EXCEEDED = 11;

/** Codes of {@link ICMP_UNREACHABLE}. */
export const CODE_NET_UNREACHABLE = 0;
export const CODE_FRAGMENTATION_NEEDED = 4;

const ICMP_HEADER_BYTES = 8;
/** No ICMP error is longer, so that it never needs fragmenting (RFC 1812, 4.3.2.3). */
const MAX_ERROR_BYTES = 576;
/** Precedence 6, internetwork control, which RFC 1812 (4.3.2.5) asks for; the sender's own low bits are kept. */
const PRECEDENCE_INTERNETWORK_CONTROL = 0xc0;
const TYPE_OF_SERVICE_BITS = 0x1e;

/** Messages that ask or answer, and may be answered with an error; all others are errors themselves, or unknown. */
const QUERY_TYPES = new Set([0, 8, 9, 10, 13, 14, 15, 16, 17, 18, 42, 43]);

/** What an ICMP error tells the sender of a packet. */
export type IcmpError =
  | { readonly kind: 'net-unreachable' }
  | { readonly kind: 'time-exceeded' }
  | { readonly kind: 'fragmentation-needed'; readonly nextHopMtuBytes: number };

/**
 * Whether RFC 1122 and RFC 1812 allow an error about the well-formed packet at `offset`: never about an ICMP error (or
 * what might be one), a fragment but the first, a packet to a multicast or broadcast address, or one from a source that
 * is no single host. Echo requests are answered like any other packet.
 */
export function mayAnswerWithError(packet: Buffer, offset: number): boolean {
  if ((ipv4FragmentWord(packet, offset) & FRAGMENT_OFFSET_MASK) !== 0) return false;
  const destination = ipv4Destination(packet, offset);
  if (isMulticast(destination) || isReserved(destination)) return false;
  if (!isUnicastHost(ipv4Source(packet, offset))) return false;
  if (ipv4Protocol(packet, offset) !== PROTOCOL_ICMP) return true;
  const headerBytes = ipv4HeaderBytes(packet, offset);
  return ipv4TotalBytes(packet, offset) > headerBytes && QUERY_TYPES.has(packet[offset + headerBytes]);
}

/**
 * Builds the IPv4 packet that carries an error about the well-formed packet at `offset` back to its source: at most 576
 * bytes, quoting as much of the packet as that leaves room for.
 * @param source the address that the error comes from
 */
export function buildIcmpError(packet: Buffer, offset: number, error: IcmpError, source: number): Buffer {
  const room = MAX_ERROR_BYTES - IPV4_HEADER_BYTES - ICMP_HEADER_BYTES;
  const quotedBytes = Math.min(room, ipv4TotalBytes(packet, offset), packet.length - offset);
  const totalBytes = IPV4_HEADER_BYTES + ICMP_HEADER_BYTES + quotedBytes;
  const answer = Buffer.alloc(totalBytes);
  writeIpv4Header(answer, 0, {
    totalBytes,
    protocol: PROTOCOL_ICMP,
    source,
    destination: ipv4Source(packet, offset),
    typeOfService: (packet[offset + 1] & TYPE_OF_SERVICE_BITS) | PRECEDENCE_INTERNETWORK_CONTROL,
  });
  const icmp = IPV4_HEADER_BYTES;
  switch (error.kind) {
    case 'net-unreachable':
      answer[icmp] = ICMP_UNREACHABLE;
      answer[icmp + 1] = CODE_NET_UNREACHABLE;
      break;
    case 'time-exceeded':
      answer[icmp] = ICMP_TIME_EXCEEDED;
      break;
    case 'fragmentation-needed':
      answer[icmp] = ICMP_UNREACHABLE;
      answer[icmp + 1] = CODE_FRAGMENTATION_NEEDED;
      answer.writeUInt16BE(error.nextHopMtuBytes, icmp + 6);
      break;
  }
  packet.copy(answer, icmp + ICMP_HEADER_BYTES, offset, offset + quotedBytes);
  answer.writeUInt16BE(checksum(answer, icmp, totalBytes - icmp), icmp + 2);
  return answer;
}
