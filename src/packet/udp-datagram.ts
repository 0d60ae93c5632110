import {
  FLAG_DONT_FRAGMENT,
  IPV4_HEADER_BYTES,
  IPV4_MAX_BYTES,
  PROTOCOL_UDP,
  UDP_HEADER_BYTES,
  UDP_OVERHEAD_BYTES,
  writeIpv4Header,
} from './ipv4.js';

/** One end of a datagram. */
export interface UdpEnd {
  readonly address: number;
  readonly port: number;
}

/**
 * A datagram as it is on the wire, from what a UDP socket knows of it: addresses, ports and payload. What a socket does not
 * know is written as a sender might: TTL 64, identification 0, don't fragment, and no UDP checksum (RFC 768: all zero).
 * @param payload - as much of it as is there
 * @param payloadBytes - of all of it, for the lengths in the headers
 */
export function udpDatagram(source: UdpEnd, destination: UdpEnd, payload: Uint8Array, payloadBytes: number): Buffer {
  const datagram = Buffer.alloc(UDP_OVERHEAD_BYTES + payload.length);
  const totalBytes = Math.min(IPV4_MAX_BYTES, UDP_OVERHEAD_BYTES + payloadBytes);
  writeIpv4Header(datagram, 0, {
    totalBytes,
    protocol: PROTOCOL_UDP,
    source: source.address,
    destination: destination.address,
    fragmentWord: FLAG_DONT_FRAGMENT,
  });
  datagram.writeUInt16BE(source.port, IPV4_HEADER_BYTES);
  datagram.writeUInt16BE(destination.port, IPV4_HEADER_BYTES + 2);
  datagram.writeUInt16BE(totalBytes - IPV4_HEADER_BYTES, IPV4_HEADER_BYTES + 4);
  datagram.set(payload, IPV4_HEADER_BYTES + UDP_HEADER_BYTES);
  return datagram;
}
