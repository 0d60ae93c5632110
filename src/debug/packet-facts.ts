/** An inner packet as people and scripts read it: addresses, ports, and what is telling of its protocol. */
import { formatIpv4 } from '../packet/address.js';
import {
  FLAG_MORE_FRAGMENTS,
  FRAGMENT_OFFSET_MASK,
  IPV4_HEADER_BYTES,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  ipv4Destination,
  ipv4FragmentWord,
  ipv4HeaderBytes,
  ipv4Protocol,
  ipv4Source,
  ipv4Ttl,
} from '../packet/ipv4.js';

/** The fields of `trace --json`; `null` where the packet has no such thing, or where it is cut off. */
export interface PacketFacts {
  readonly source: string | null;
  readonly destination: string | null;
  /** `tcp`, or the number where it has no common name (IANA, "Protocol Numbers"). */
  readonly protocol: string | null;
  /** Bytes of the packet, headers included. */
  readonly length: number;
  readonly ttl: number | null;
  readonly sourcePort: number | null;
  readonly destinationPort: number | null;
}

const PROTOCOL_NAMES: Readonly<Record<number, string>> = {
  [PROTOCOL_ICMP]: 'icmp',
  2: 'igmp',
  4: 'ipip',
  [PROTOCOL_TCP]: 'tcp',
  [PROTOCOL_UDP]: 'udp',
  47: 'gre',
  50: 'esp',
  51: 'ah',
  89: 'ospf',
  103: 'pim',
  112: 'vrrp',
  132: 'sctp',
};
/** Both ports come first in their headers. */
const WITH_PORTS: ReadonlySet<number> = new Set([PROTOCOL_TCP, PROTOCOL_UDP, 132]);

/** By bit of the flags, from the lowest; the letters that tcpdump uses. */
const TCP_FLAGS = ['F', 'S', 'R', 'P', '.', 'U', 'E', 'W'];

const ICMP_TYPES: Readonly<Record<number, string>> = {
  0: 'echo reply',
  3: 'unreachable',
  4: 'source quench',
  5: 'redirect',
  8: 'echo request',
  11: 'time exceeded',
  12: 'parameter problem',
  13: 'timestamp',
  14: 'timestamp reply',
};

/** @param packet - the beginning of it */
export function packetFacts(packet: Buffer, lengthBytes: number): PacketFacts {
  if (!isIpv4(packet)) {
    const none = { source: null, destination: null, protocol: null, ttl: null };
    return { ...none, length: lengthBytes, sourcePort: null, destinationPort: null };
  }
  const protocol = ipv4Protocol(packet, 0);
  const transport = transportOffset(packet);
  const ports = WITH_PORTS.has(protocol) && transport !== undefined && packet.length >= transport + 4;
  return {
    source: formatIpv4(ipv4Source(packet, 0)),
    destination: formatIpv4(ipv4Destination(packet, 0)),
    protocol: PROTOCOL_NAMES[protocol] ?? String(protocol),
    length: lengthBytes,
    ttl: ipv4Ttl(packet, 0),
    sourcePort: ports ? packet.readUInt16BE(transport) : null,
    destinationPort: ports ? packet.readUInt16BE(transport + 2) : null,
  };
}

/** `10.5.1.6:41000 > 10.5.2.7:80 tcp [S]`; what is no IPv4 packet is told by its first bytes. */
export function describePacket(packet: Buffer, lengthBytes: number): string {
  const facts = packetFacts(packet, lengthBytes);
  if (facts.source === null || facts.destination === null) {
    const start = packet.subarray(0, 16).toString('hex');
    return `${packet.length > 0 && packet[0] >>> 4 === 6 ? 'IPv6' : 'no IPv4 packet'} (${start === '' ? 'empty' : start})`;
  }
  const end = (address: string, port: number | null): string => (port === null ? address : `${address}:${port}`);
  const detail = protocolDetail(packet);
  return (
    `${end(facts.source, facts.sourcePort)} > ${end(facts.destination, facts.destinationPort)} ${facts.protocol}` +
    (detail === '' ? '' : ` ${detail}`)
  );
}

/** TCP flags, ICMP type and code, a fragment's place. */
function protocolDetail(packet: Buffer): string {
  const fragment = fragmentDetail(packet);
  const transport = transportOffset(packet);
  if (transport === undefined) return fragment;
  const detail =
    ipv4Protocol(packet, 0) === PROTOCOL_TCP ? tcpDetail(packet, transport) : icmpDetail(packet, transport);
  return [detail, fragment].filter((part) => part !== '').join(' ');
}

function tcpDetail(packet: Buffer, transport: number): string {
  if (packet.length < transport + 14) return '';
  const flags = packet[transport + 13];
  const letters = TCP_FLAGS.filter((_letter, bit) => (flags & (1 << bit)) !== 0).join('');
  return `[${letters === '' ? 'none' : letters}]`;
}

function icmpDetail(packet: Buffer, transport: number): string {
  if (ipv4Protocol(packet, 0) !== PROTOCOL_ICMP || packet.length < transport + 2) return '';
  const [type, code] = packet.subarray(transport, transport + 2);
  const name = ICMP_TYPES[type] ?? 'type';
  const isEcho = (type === 0 || type === 8) && packet.length >= transport + 8;
  const echo = isEcho ? ` id ${packet.readUInt16BE(transport + 4)} seq ${packet.readUInt16BE(transport + 6)}` : '';
  return `${name} (type ${type} code ${code})${echo}`;
}

function fragmentDetail(packet: Buffer): string {
  const word = ipv4FragmentWord(packet, 0);
  const offset = (word & FRAGMENT_OFFSET_MASK) * 8;
  if (offset === 0 && (word & FLAG_MORE_FRAGMENTS) === 0) return '';
  return `${(word & FLAG_MORE_FRAGMENTS) === 0 ? 'last ' : ''}fragment at ${offset}`;
}

/** Where the header behind the IP header begins; `undefined` in a fragment that does not have it, or when cut off. */
function transportOffset(packet: Buffer): number | undefined {
  const headerBytes = ipv4HeaderBytes(packet, 0);
  if (headerBytes < IPV4_HEADER_BYTES || packet.length < headerBytes) return undefined;
  return (ipv4FragmentWord(packet, 0) & FRAGMENT_OFFSET_MASK) === 0 ? headerBytes : undefined;
}

function isIpv4(packet: Buffer): boolean {
  return packet.length >= IPV4_HEADER_BYTES && packet[0] >>> 4 === 4;
}
