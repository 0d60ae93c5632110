/**
 * IPv4 headers (RFC 791) read and written where they are in a Buffer. `offset` is always where the header begins;
 * nothing here checks bounds, for {@link ipv4Shape} did so once.
 */
import { checksum, checksumUpdate } from './checksum.js';

/** Bytes of a header without options. */
export const IPV4_HEADER_BYTES = 20;
/** Bytes of a UDP header (RFC 768). */
export const UDP_HEADER_BYTES = 8;
/** What a datagram of the udp backend adds to an inner packet: an IPv4 and a UDP header. */
export const UDP_OVERHEAD_BYTES = IPV4_HEADER_BYTES + UDP_HEADER_BYTES;
/** Every IPv4 link carries packets of this size (RFC 791). */
export const IPV4_MIN_MTU_BYTES = 68;
/** Largest packet the total length field can state. */
export const IPV4_MAX_BYTES = 65535;

export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
/** Those that are asked for by name. */
export const PROTOCOL_NUMBERS = { icmp: PROTOCOL_ICMP, tcp: PROTOCOL_TCP, udp: PROTOCOL_UDP } as const;

/** The number of a protocol by one of those names. */
export function protocolNumber(name: string): number | undefined {
  return Object.hasOwn(PROTOCOL_NUMBERS, name) ? PROTOCOL_NUMBERS[name as keyof typeof PROTOCOL_NUMBERS] : undefined;
}

/** Bits of the word at offset 6: don't fragment, more fragments, offset in units of 8 bytes. */
export const FLAG_DONT_FRAGMENT = 0x4000;
export const FLAG_MORE_FRAGMENTS = 0x2000;
export const FRAGMENT_OFFSET_MASK = 0x1fff;

/** Why a packet cannot be forwarded as it is, or `ok`. */
export type Ipv4Shape = 'ok' | 'not-ipv4' | 'truncated';

/**
 * Holds `availableBytes` at `offset` against what the header says: version 4, a header of at least 20 bytes, a total
 * length that covers the header and is there. Bytes beyond the total length are link padding and no fault.
 */
export function ipv4Shape(buffer: Buffer, offset: number, availableBytes: number): Ipv4Shape {
  if (availableBytes < 1) return 'truncated';
  if (buffer[offset] >>> 4 !== 4) return 'not-ipv4';
  if (availableBytes < IPV4_HEADER_BYTES) return 'truncated';
  const headerBytes = ipv4HeaderBytes(buffer, offset);
  const totalBytes = ipv4TotalBytes(buffer, offset);
  if (headerBytes < IPV4_HEADER_BYTES || totalBytes < headerBytes || totalBytes > availableBytes) return 'truncated';
  return 'ok';
}

/** Bytes of the header with its options. */
export function ipv4HeaderBytes(buffer: Buffer, offset: number): number {
  return (buffer[offset] & 0x0f) * 4;
}

/** Bytes of the whole packet as its header states them. */
export function ipv4TotalBytes(buffer: Buffer, offset: number): number {
  return (buffer[offset + 2] << 8) | buffer[offset + 3];
}

/** Flags and fragment offset in one word, see {@link FLAG_DONT_FRAGMENT}. */
export function ipv4FragmentWord(buffer: Buffer, offset: number): number {
  return (buffer[offset + 6] << 8) | buffer[offset + 7];
}

/** Whether the packet forbids fragmentation. */
export function ipv4DontFragment(buffer: Buffer, offset: number): boolean {
  return (buffer[offset + 6] & 0x40) !== 0;
}

/** Remaining hops. */
export function ipv4Ttl(buffer: Buffer, offset: number): number {
  return buffer[offset + 8];
}

/** The protocol that the payload belongs to. */
export function ipv4Protocol(buffer: Buffer, offset: number): number {
  return buffer[offset + 9];
}

/** Source address, unsigned. */
export function ipv4Source(buffer: Buffer, offset: number): number {
  return (
    ((buffer[offset + 12] << 24) | (buffer[offset + 13] << 16) | (buffer[offset + 14] << 8) | buffer[offset + 15]) >>> 0
  );
}

/** Destination address, unsigned. */
export function ipv4Destination(buffer: Buffer, offset: number): number {
  return (
    ((buffer[offset + 16] << 24) | (buffer[offset + 17] << 16) | (buffer[offset + 18] << 8) | buffer[offset + 19]) >>> 0
  );
}

/** The header checksum field. */
export function ipv4Checksum(buffer: Buffer, offset: number): number {
  return (buffer[offset + 10] << 8) | buffer[offset + 11];
}

/**
 * Takes one from the TTL and mends the checksum (RFC 1624). The caller drops a packet whose TTL is 1 or 0 instead
 * (RFC 1812, 5.3.1).
 */
export function decrementTtl(buffer: Buffer, offset: number): void {
  const oldWord = (buffer[offset + 8] << 8) | buffer[offset + 9];
  const mended = checksumUpdate(ipv4Checksum(buffer, offset), oldWord, oldWord - 0x0100);
  buffer[offset + 8]--;
  buffer[offset + 10] = mended >>> 8;
  buffer[offset + 11] = mended & 0xff;
}

/** Takes back what {@link decrementTtl} did. */
export function incrementTtl(buffer: Buffer, offset: number): void {
  const oldWord = (buffer[offset + 8] << 8) | buffer[offset + 9];
  const mended = checksumUpdate(ipv4Checksum(buffer, offset), oldWord, oldWord + 0x0100);
  buffer[offset + 8]++;
  buffer[offset + 10] = mended >>> 8;
  buffer[offset + 11] = mended & 0xff;
}

/** Computes the header checksum anew and writes it. */
export function writeIpv4Checksum(buffer: Buffer, offset: number): void {
  buffer.writeUInt16BE(0, offset + 10);
  buffer.writeUInt16BE(checksum(buffer, offset, ipv4HeaderBytes(buffer, offset)), offset + 10);
}

/** The fields of a header without options; fragmentation is described by the raw word. */
export interface Ipv4Header {
  readonly totalBytes: number;
  readonly protocol: number;
  readonly source: number;
  readonly destination: number;
  readonly ttl?: number;
  readonly typeOfService?: number;
  readonly identification?: number;
  readonly fragmentWord?: number;
}

/** Writes a header of 20 bytes with its checksum. */
export function writeIpv4Header(buffer: Buffer, offset: number, header: Ipv4Header): void {
  buffer[offset] = 0x45;
  buffer[offset + 1] = header.typeOfService ?? 0;
  buffer.writeUInt16BE(header.totalBytes, offset + 2);
  buffer.writeUInt16BE(header.identification ?? 0, offset + 4);
  buffer.writeUInt16BE(header.fragmentWord ?? 0, offset + 6);
  buffer[offset + 8] = header.ttl ?? 64;
  buffer[offset + 9] = header.protocol;
  buffer.writeUInt32BE(header.source, offset + 12);
  buffer.writeUInt32BE(header.destination, offset + 16);
  writeIpv4Checksum(buffer, offset);
}

/** 224.0.0.0/4 (RFC 5771). */
export function isMulticast(address: number): boolean {
  return address >>> 28 === 0xe;
}

/** 127.0.0.0/8 (RFC 1122, 3.2.1.3). */
export function isLoopback(address: number): boolean {
  return address >>> 24 === 127;
}

/** 169.254.0.0/16 (RFC 3927). */
export function isLinkLocal(address: number): boolean {
  return address >>> 16 === 0xa9fe;
}

/** 0.0.0.0/8, "this network" (RFC 1122, 3.2.1.3): never on the wire as anybody's address but while asking for one. */
export function isThisNetwork(address: number): boolean {
  return address >>> 24 === 0;
}

/** 240.0.0.0/4 (RFC 1112), with the limited broadcast 255.255.255.255. */
export function isReserved(address: number): boolean {
  return address >>> 28 === 0xf;
}

/** Whether an address can be that of one host, which may therefore be answered. */
export function isUnicastHost(address: number): boolean {
  return !isMulticast(address) && !isReserved(address) && !isLoopback(address) && !isThisNetwork(address);
}
