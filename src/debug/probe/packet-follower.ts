import type { TapHub } from '../../observe/tap-hub.js';
import { TapFrameReader, type TapEvent, type TapHello } from '../../observe/tap-protocol.js';
import type { TapSink } from '../../observe/tap-subscriber.js';
import { formatIpv4, formatPrefix } from '../../packet/address.js';
import { isoTime } from '../trace/trace-line.js';
import { reasonOf } from '../verdict.js';
import type { PacketCall } from './probe-call.js';
import { recognise, RECOGNISED_BYTES } from './probe-packet.js';
import type { Sighting } from './sighting.js';

/** Sightings of a call that one agent tells of; what comes again and again (a SYN-ACK, a loop) is cut off. */
const MAX_SIGHTINGS = 500;

export interface FollowerEvents {
  seen(sighting: Sighting): void;
  /** Records that were lost so far: what was not seen may have passed. */
  lost(records: number): void;
}

/**
 * Watches this node's dataplane for the packets of a call, and for nothing else.
 * @returns ends that
 * @throws FlannelError `CONTROL` when no packets flow, or too many watch already
 */
export function followPackets(hub: TapHub, call: PacketCall, events: FollowerEvents): () => void {
  const frames = new TapFrameReader();
  let hello: TapHello | undefined;
  let left = MAX_SIGHTINGS;
  const sink: TapSink = {
    write(bytes) {
      for (const frame of frames.read(bytes)) {
        if (frame.kind === 'hello') hello = frame.hello;
        else if (frame.kind === 'loss') events.lost(frame.loss.ring + frame.loss.reader);
        else if (hello !== undefined && left-- > 0) {
          const sighting = sightingOf(call, frame.event, hello);
          if (sighting !== undefined) events.seen(sighting);
        }
      }
    },
    cork() {},
    uncork() {},
    writableLength: 0,
  };
  return hub.subscribe(
    {
      filter: { matches: (packet) => recognise(call, asBuffer(packet)) !== undefined },
      outerFilter: undefined,
      direction: undefined,
      dropsOnly: false,
      reasons: undefined,
      every: 1,
      packetBytes: RECOGNISED_BYTES,
      wirePackets: false,
    },
    sink,
  );
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function sightingOf(call: PacketCall, event: TapEvent, hello: TapHello): Sighting | undefined {
  const found = recognise(call, event.packet);
  if (found === undefined) return undefined;
  const { answer = null, packet, from } = found;
  return {
    packet,
    leg: answer === null ? 'request' : 'reply',
    direction: event.direction,
    reason: reasonOf(event, hello),
    peer: event.underlayAddress === 0 ? null : `${formatIpv4(event.underlayAddress)}:${event.underlayPort}`,
    lease: event.lease === undefined ? null : formatPrefix(event.lease),
    answer,
    answerFrom: answer === null ? null : formatIpv4(from),
    time: isoTime(event.timeNs),
  };
}
