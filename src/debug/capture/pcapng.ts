/**
 * Blocks of a capture file in pcapng (draft-ietf-opsawg-pcapng): a section header, the interfaces, and packets, each with
 * its direction and a comment. Integers are little-endian, times count nanoseconds.
 */

/** Link types of packets that begin with their IP header: of either version, or of version 4. */
export const LINKTYPE_RAW = 101;
export const LINKTYPE_IPV4 = 228;

const SECTION_HEADER = 0x0a0d0d0a;
const INTERFACE_DESCRIPTION = 1;
const INTERFACE_STATISTICS = 5;
const ENHANCED_PACKET = 6;

const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
/** The length of a section that is not known beforehand. */
const UNKNOWN_LENGTH = 0xffffffffffffffffn;
const NANOSECONDS = 9;

// Options, by the block that they belong to.
const COMMENT = 1;
const SHB_USER_APPLICATION = 4;
const IF_NAME = 2;
const IF_DESCRIPTION = 3;
const IF_TIME_RESOLUTION = 9;
const IF_FILTER = 11;
const EPB_FLAGS = 2;
const ISB_RECEIVED = 4;
const ISB_DROPPED = 5;

/** Bits of epb_flags. */
const INBOUND = 1;
const OUTBOUND = 2;

export interface CaptureInterface {
  readonly linkType: number;
  readonly name: string;
  readonly description: string;
  /** Bytes of a packet that are kept, at most. */
  readonly snapBytes: number;
  /** The capture filter, where there is one. */
  readonly filter?: string;
}

export interface CapturedPacket {
  /** Index of its interface in the order in which they were described. */
  readonly interfaceIndex: number;
  readonly timeNs: bigint;
  readonly direction: 'inbound' | 'outbound';
  /** As much of it as was kept. */
  readonly bytes: Buffer;
  readonly lengthBytes: number;
  readonly comment: string;
}

/** The first block of a file. */
export function sectionHeader(application: string): Buffer {
  const body = Buffer.alloc(16);
  body.writeUInt32LE(BYTE_ORDER_MAGIC, 0);
  body.writeUInt16LE(1, 4);
  body.writeBigUInt64LE(UNKNOWN_LENGTH, 8);
  return block(SECTION_HEADER, [body, textOption(SHB_USER_APPLICATION, application), END_OF_OPTIONS]);
}

/** Describes an interface; packets refer to it by its place in the file, from 0 on. Times count nanoseconds. */
export function interfaceDescription({ linkType, name, description, snapBytes, filter }: CaptureInterface): Buffer {
  const body = Buffer.alloc(8);
  body.writeUInt16LE(linkType, 0);
  body.writeUInt32LE(snapBytes, 4);
  const options = [
    textOption(IF_NAME, name),
    textOption(IF_DESCRIPTION, description),
    option(IF_TIME_RESOLUTION, Buffer.from([NANOSECONDS])),
  ];
  // Its first byte says that what follows is an expression, not a compiled program.
  if (filter !== undefined) options.push(option(IF_FILTER, Buffer.from(`\0${filter}`)));
  return block(INTERFACE_DESCRIPTION, [body, ...options, END_OF_OPTIONS]);
}

/** One packet, with its direction and its comment. */
export function enhancedPacket(packet: CapturedPacket): Buffer {
  const { interfaceIndex, timeNs, direction, bytes, lengthBytes, comment } = packet;
  const header = Buffer.alloc(20);
  header.writeUInt32LE(interfaceIndex, 0);
  writeTime(header, 4, timeNs);
  header.writeUInt32LE(bytes.length, 12);
  header.writeUInt32LE(lengthBytes, 16);
  const flags = Buffer.alloc(4);
  flags.writeUInt32LE(direction === 'inbound' ? INBOUND : OUTBOUND, 0);
  const options = [option(EPB_FLAGS, flags), textOption(COMMENT, comment), END_OF_OPTIONS];
  return block(ENHANCED_PACKET, [header, bytes, padding(bytes.length), ...options]);
}

/** At the end of a file: how many packets there were of an interface, and how many are missing. */
export function interfaceStatistics(index: number, timeNs: bigint, received: number, dropped: number): Buffer {
  const body = Buffer.alloc(12);
  body.writeUInt32LE(index, 0);
  writeTime(body, 4, timeNs);
  return block(INTERFACE_STATISTICS, [
    body,
    option(ISB_RECEIVED, count(received)),
    option(ISB_DROPPED, count(dropped)),
    END_OF_OPTIONS,
  ]);
}

const END_OF_OPTIONS = Buffer.alloc(4);

/** The upper half comes first, whatever the byte order. */
function writeTime(buffer: Buffer, at: number, timeNs: bigint): void {
  buffer.writeUInt32LE(Number(timeNs >> 32n), at);
  buffer.writeUInt32LE(Number(timeNs & 0xffffffffn), at + 4);
}

function count(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function textOption(code: number, text: string): Buffer {
  return option(code, Buffer.from(text, 'utf8').subarray(0, 0xffff));
}

function option(code: number, value: Buffer): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt16LE(code, 0);
  header.writeUInt16LE(value.length, 2);
  return Buffer.concat([header, value, padding(value.length)]);
}

function padding(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4);
}

function block(type: number, parts: readonly Buffer[]): Buffer {
  const bytes = 12 + parts.reduce((sum, part) => sum + part.length, 0);
  const header = Buffer.alloc(8);
  header.writeUInt32LE(type, 0);
  header.writeUInt32LE(bytes, 4);
  return Buffer.concat([header, ...parts, header.subarray(4)]);
}
