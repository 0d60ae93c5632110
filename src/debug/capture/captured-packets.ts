/**
 * What a capture has of an event. A packet is seen at each side that it reached, in the form that it had there: on the
 * inner side as pods and the overlay device have it, on the outer side as the datagram that the underlay carries. A dropped
 * packet is thus seen only on the side that it came from.
 */
import { datagramOf, oneHopOn } from '../../observe/tap-datagram.js';
import type { TapEvent, TapHello } from '../../observe/tap-protocol.js';
import { describeVerdict } from '../verdict.js';
import { LINKTYPE_IPV4, LINKTYPE_RAW, type CaptureInterface, type CapturedPacket } from './pcapng.js';

const INNER = 0;
const OUTER = 1;

/** What one capture asks for, for the description of its interfaces. */
export interface CaptureSettings {
  readonly snapBytes: number;
  readonly filter?: string;
  readonly outerFilter?: string;
}

/** The interfaces of a capture, in the order that packets name them by. */
export function captureInterfaces(hello: TapHello, settings: CaptureSettings): readonly CaptureInterface[] {
  const { snapBytes, filter, outerFilter } = settings;
  return [
    {
      linkType: LINKTYPE_RAW,
      name: hello.device,
      description: `inner: packets of pods, at ${hello.node}`,
      snapBytes,
      filter,
    },
    {
      linkType: LINKTYPE_IPV4,
      name: hello.externalInterface,
      description: `outer: datagrams of the tunnel, at ${hello.node}`,
      snapBytes,
      filter: outerFilter,
    },
  ];
}

/** The packets of one event, in the order in which they were seen. */
export function capturedPackets(event: TapEvent, hello: TapHello, { snapBytes }: CaptureSettings): CapturedPacket[] {
  const { timeNs, direction, reason, packet, lengthBytes } = event;
  const comment = commentOn(event, hello);
  const seen = (interfaceIndex: number, bytes: Buffer, length: number): CapturedPacket => ({
    interfaceIndex,
    timeNs,
    direction: direction === 'encap' ? 'outbound' : 'inbound',
    bytes: bytes.subarray(0, snapBytes),
    lengthBytes: length,
    comment,
  });
  const datagram = datagramOf(event, hello.tunnelEnd);
  const outer = datagram && seen(OUTER, datagram, lengthBytes + datagram.length - packet.length);
  if (direction === 'encap') {
    const inner = seen(INNER, packet, lengthBytes);
    return reason === 0 && outer !== undefined ? [inner, outer] : [inner];
  }
  const delivered = reason === 0 ? [seen(INNER, oneHopOn(packet), lengthBytes)] : [];
  return outer === undefined ? delivered : [outer, ...delivered];
}

function commentOn(event: TapEvent, hello: TapHello): string {
  const verdict = describeVerdict(event, hello);
  if (event.segments <= 1) return verdict;
  return `${verdict}; packet ${event.segment + 1} of ${event.segments} that a super-packet was cut into`;
}
