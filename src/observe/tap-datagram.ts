import { decrementTtl, IPV4_HEADER_BYTES } from '../packet/ipv4.js';
import { udpDatagram, type UdpEnd } from '../packet/udp-datagram.js';
import type { TapEvent } from './tap-protocol.js';

/** From where to where a datagram goes. */
export interface DatagramEnds {
  readonly source: UdpEnd;
  readonly destination: UdpEnd;
}

/**
 * The ends of the datagram that carried an event's packet, or was to carry it.
 * @param own - this node's end of the tunnel
 * @returns `undefined` for a packet that was dropped before it had a next hop
 */
export function datagramEnds(event: TapEvent, own: UdpEnd): DatagramEnds | undefined {
  if (event.underlayAddress === 0) return undefined;
  const other = { address: event.underlayAddress, port: event.underlayPort };
  return event.direction === 'encap' ? { source: own, destination: other } : { source: other, destination: own };
}

/** That datagram as it is on the wire, as much of it as the event has. */
export function datagramOf(event: TapEvent, own: UdpEnd): Buffer | undefined {
  const ends = datagramEnds(event, own);
  if (ends === undefined) return undefined;
  const payload = event.direction === 'encap' ? oneHopOn(event.packet) : event.packet;
  return udpDatagram(ends.source, ends.destination, payload, event.lengthBytes);
}

/** The packet as it leaves a node that it came to: one hop off its TTL. */
export function oneHopOn(packet: Buffer): Buffer {
  const passed = Buffer.from(packet);
  if (passed.length >= IPV4_HEADER_BYTES) decrementTtl(passed, 0);
  return passed;
}
