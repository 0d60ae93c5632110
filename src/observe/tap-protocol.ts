/**
 * What is said over `POST /v1/tap` of the control socket. The request's body is a {@link TapRequest} in JSON. The answer is
 * a stream of frames that lasts until the client hangs up: four bytes of length (of what follows them), one byte of kind,
 * and the frame itself. First a {@link TapHello} in JSON, then records as they come, and a {@link TapLoss} in JSON whenever
 * records were lost. Integers are little-endian.
 */
import type { Ipv4Prefix } from '../packet/address.js';
import type { UdpEnd } from '../packet/udp-datagram.js';

/** What a subscriber wants to see; all that is left out is unrestricted. */
export interface TapRequest {
  /** A classic BPF program on the inner packet: four integers an instruction, as `tcpdump -ddd` prints them. */
  readonly filter?: readonly number[];
  /** The same on the datagram around it. */
  readonly outerFilter?: readonly number[];
  readonly direction?: 'encap' | 'decap';
  /** Only what was dropped. */
  readonly dropsOnly?: boolean;
  /** Only what was dropped for one of these reasons. */
  readonly reasons?: readonly string[];
  /** One packet in so many. */
  readonly every?: number;
  /** Bytes of each packet that are wanted, at most. */
  readonly packetBytes: number;
  /** The packets that a super-packet is cut into, in place of the super-packet. */
  readonly wirePackets: boolean;
}

/** Who answers: the first frame. */
export interface TapHello {
  /** The address by which other nodes know this one. */
  readonly node: string;
  readonly device: string;
  readonly externalInterface: string;
  /** Where datagrams come from, and arrive. */
  readonly tunnelEnd: UdpEnd;
  /** By the numbers that records have: names and descriptions; the first stands for "went on". */
  readonly reasons: readonly { readonly name: string; readonly description: string }[];
}

/** Records that this subscriber has not got, since it subscribed. */
export interface TapLoss {
  /** For want of room in a worker's ring: some of them it might not have wanted. */
  readonly ring: number;
  /** For it did not read fast enough. */
  readonly reader: number;
}

/** What became of one packet. */
export interface TapEvent {
  /** Wall clock, nanoseconds since 1970: when the batch that the packet was in had been received. */
  readonly timeNs: bigint;
  readonly direction: 'encap' | 'decap';
  /** Of the device, or of the sockets: a worker each. */
  readonly queue: number;
  /** Index into {@link TapHello.reasons}; 0: it went on. */
  readonly reason: number;
  /** The errno value of the system call that refused the packet; 0 for none. */
  readonly error: number;
  /** Receiver of the datagram on the way out, 0 where there is none yet; its sender on the way in. */
  readonly underlayAddress: number;
  readonly underlayPort: number;
  /** The lease that has the inner destination (on the way out) or source (on the way in). */
  readonly lease: Ipv4Prefix | undefined;
  /** The beginning of the inner packet as it came, its TTL not yet lowered. */
  readonly packet: Buffer;
  readonly lengthBytes: number;
  /** Packets that it is on the wire. */
  readonly segments: number;
  /** Which of them this is; -1 for a super-packet as a whole, and for a packet that was never one. */
  readonly segment: number;
  readonly batchPackets: number;
  /** Packets that were written to the device as one, this one among them: what arrives is merged; else 1. */
  readonly merged: number;
  /** Packets that this one stands for, on average. */
  readonly every: number;
}

export type TapFrame =
  | { readonly kind: 'hello'; readonly hello: TapHello }
  | { readonly kind: 'event'; readonly event: TapEvent }
  | { readonly kind: 'loss'; readonly loss: TapLoss };

const HELLO = 1;
const EVENT = 2;
const LOSS = 3;

const PREFIX_BYTES = 5;
const EVENT_HEADER_BYTES = 48;
const NO_LEASE = 255;
/** No packet and no hello is nearly as large. */
const MAX_FRAME_BYTES = 1024 * 1024;

/** The first frame to a subscriber. */
export function encodeHello(hello: TapHello): Buffer {
  return frame(HELLO, Buffer.from(JSON.stringify(hello)));
}

/** The frame that says how many records were lost. */
export function encodeLoss(loss: TapLoss): Buffer {
  return frame(LOSS, Buffer.from(JSON.stringify(loss)));
}

/** The frame of one packet: a header of 48 bytes, little-endian, and the beginning of the packet. */
export function encodeEvent(event: TapEvent): Buffer {
  const header = Buffer.alloc(EVENT_HEADER_BYTES);
  header.writeBigUInt64LE(event.timeNs, 0);
  header[8] = event.direction === 'encap' ? 0 : 1;
  header[9] = event.reason;
  header[10] = event.lease?.length ?? NO_LEASE;
  header.writeUInt16LE(event.queue, 12);
  header.writeUInt16LE(event.error, 14);
  header.writeUInt32LE(event.underlayAddress, 16);
  header.writeUInt16LE(event.underlayPort, 20);
  header.writeUInt16LE(event.batchPackets, 22);
  header.writeUInt32LE(event.lease?.address ?? 0, 24);
  header.writeUInt32LE(event.lengthBytes, 28);
  header.writeUInt32LE(event.segments, 32);
  header.writeInt32LE(event.segment, 36);
  header.writeUInt32LE(event.every, 40);
  header.writeUInt32LE(event.merged, 44);
  return frame(EVENT, header, event.packet);
}

function frame(kind: number, ...parts: Buffer[]): Buffer {
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32LE(1 + parts.reduce((sum, part) => sum + part.length, 0), 0);
  prefix[4] = kind;
  return Buffer.concat([prefix, ...parts]);
}

/** Puts frames together again from the pieces in which a stream brings them. */
export class TapFrameReader {
  private rest: Buffer = Buffer.alloc(0);

  /**
   * The frames that are complete with this piece. Kinds of a later release are passed over.
   * @throws RangeError for what cannot be a frame
   */
  *read(piece: Buffer): Generator<TapFrame> {
    let bytes = this.rest.length === 0 ? piece : Buffer.concat([this.rest, piece]);
    while (bytes.length >= PREFIX_BYTES) {
      const length = bytes.readUInt32LE(0);
      if (length < 1 || length > MAX_FRAME_BYTES) throw new RangeError(`a frame of ${length} bytes`);
      if (bytes.length < 4 + length) break;
      const found = decode(bytes[4], bytes.subarray(PREFIX_BYTES, 4 + length));
      bytes = bytes.subarray(4 + length);
      if (found !== undefined) yield found;
    }
    this.rest = bytes;
  }
}

function decode(kind: number, body: Buffer): TapFrame | undefined {
  switch (kind) {
    case HELLO:
      return { kind: 'hello', hello: JSON.parse(body.toString('utf8')) as TapHello };
    case LOSS:
      return { kind: 'loss', loss: JSON.parse(body.toString('utf8')) as TapLoss };
    case EVENT:
      return { kind: 'event', event: decodeEvent(body) };
    default:
      return undefined;
  }
}

function decodeEvent(body: Buffer): TapEvent {
  const leaseLength = body[10];
  return {
    timeNs: body.readBigUInt64LE(0),
    direction: body[8] === 0 ? 'encap' : 'decap',
    queue: body.readUInt16LE(12),
    reason: body[9],
    error: body.readUInt16LE(14),
    underlayAddress: body.readUInt32LE(16),
    underlayPort: body.readUInt16LE(20),
    batchPackets: body.readUInt16LE(22),
    lease: leaseLength === NO_LEASE ? undefined : { address: body.readUInt32LE(24), length: leaseLength },
    lengthBytes: body.readUInt32LE(28),
    segments: body.readUInt32LE(32),
    segment: body.readInt32LE(36),
    every: body.readUInt32LE(40),
    merged: body.readUInt32LE(44),
    packet: body.subarray(EVENT_HEADER_BYTES),
  };
}
