/**
 * Sends datagrams with any outer and inner header, from inside a namespace: what an attacker on the underlay can do.
 * Its argument is a JSON array of {@link Forgery}.
 */
import rawSocket from 'raw-socket';
import { PROTOCOL_UDP, writeIpv4Header } from '../../../src/packet/ipv4.js';
import { ip } from '../../support/addresses.js';

export interface Forgery {
  readonly outerSource: string;
  readonly outerDestination: string;
  readonly outerPort: number;
  readonly innerSource: string;
  readonly innerDestination: string;
  readonly innerPort: number;
  readonly payload: string;
}

/** An IPv4 packet with a UDP datagram in it; the UDP checksum is left out, as IPv4 allows. */
function udpPacket(source: string, destination: string, port: number, payload: Buffer): Buffer {
  const packet = Buffer.alloc(28 + payload.length);
  writeIpv4Header(packet, 0, {
    totalBytes: packet.length,
    protocol: PROTOCOL_UDP,
    source: ip(source),
    destination: ip(destination),
    identification: 0x1234,
  });
  packet.writeUInt16BE(port, 20);
  packet.writeUInt16BE(port, 22);
  packet.writeUInt16BE(8 + payload.length, 24);
  payload.copy(packet, 28);
  return packet;
}

const socket = rawSocket.createSocket({ protocol: 255 });
const forgeries = JSON.parse(process.argv[2]) as Forgery[];
let left = forgeries.length;
for (const forgery of forgeries) {
  const payload = Buffer.from(forgery.payload);
  const inner = udpPacket(forgery.innerSource, forgery.innerDestination, forgery.innerPort, payload);
  const outer = udpPacket(forgery.outerSource, forgery.outerDestination, forgery.outerPort, inner);
  socket.send(outer, 0, outer.length, forgery.outerDestination, (error) => {
    if (error !== null) throw error;
    if (--left === 0) socket.close();
  });
}
