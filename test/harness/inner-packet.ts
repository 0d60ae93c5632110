/** IPv4 packets as a test writes them by hand, independent of the product's own code. */

export interface InnerPacket {
  readonly source: string;
  readonly destination: string;
  readonly ttl?: number;
  /** The TOS byte: DSCP and ECN. */
  readonly tos?: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly payload?: string;
}

/** A UDP datagram in an IPv4 packet (RFC 768, RFC 791), checksums and all. */
export function udpPacket(packet: InnerPacket): Buffer {
  const { ttl = 64, tos = 0, sourcePort = 1111, destinationPort = 7777, payload = 'hello' } = packet;
  const data = Buffer.from(payload);
  const bytes = Buffer.alloc(28 + data.length);
  bytes[0] = 0x45;
  bytes[1] = tos;
  bytes.writeUInt16BE(bytes.length, 2);
  bytes.writeUInt16BE(0x4000, 6);
  bytes[8] = ttl;
  bytes[9] = 17;
  addressBytes(packet.source).copy(bytes, 12);
  addressBytes(packet.destination).copy(bytes, 16);
  bytes.writeUInt16BE(onesComplement(bytes.subarray(0, 20)), 10);
  bytes.writeUInt16BE(sourcePort, 20);
  bytes.writeUInt16BE(destinationPort, 22);
  bytes.writeUInt16BE(8 + data.length, 24);
  data.copy(bytes, 28);
  const pseudo = Buffer.concat([bytes.subarray(12, 20), Buffer.from([0, 17]), bytes.subarray(24, 26)]);
  const checksum = onesComplement(Buffer.concat([pseudo, bytes.subarray(20)]));
  bytes.writeUInt16BE(checksum === 0 ? 0xffff : checksum, 26);
  return bytes;
}

function addressBytes(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number));
}

/** The Internet checksum (RFC 1071). */
function onesComplement(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at] << 8) + (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
