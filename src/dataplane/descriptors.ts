/**
 * How a worker's memory is laid out, as `native/layout.h` has it: one arena of bytes, and for each packet a descriptor
 * of sixteen 32-bit integers. The native calls and the walks agree through nothing else, so a packet is never copied,
 * sliced or wrapped into an object on its way.
 */

/** Of the layout below; the addon states the one it was compiled with. */
export const LAYOUT_VERSION = 1;

/** Words from one descriptor to the next. */
export const DESCRIPTOR_WORDS = 16;

/** Where the inner packet begins in the arena. */
export const OFFSET = 0;
/** Bytes of the inner packet. */
export const LENGTH = 1;
/** {@link FORWARD}, or a `DropReason`: written by the walk, read by the native transmit call. */
export const VERDICT = 2;
/** Underlay address, signed: whom to send to (written by the walk), or who sent (written by the native receive call). */
export const ADDRESS = 3;
/** The UDP port that goes with it. */
export const PORT = 4;
/** What the kernel said to a forwarded packet: 0, or an errno value. */
export const ERROR = 5;

/** The verdict of a packet that goes on. */
export const FORWARD = 0;

/** Packets in one batch, at most. */
export const BATCH_PACKETS = 128;

/** No read from the device and no datagram is larger. */
export const MAX_PACKET_BYTES = 65536;

/** Packets read from the device lie one after the other. */
export const ENCAP_ARENA_BYTES = 1 << 20;
/** Datagrams are received into places of this size. */
export const DATAGRAM_PLACE_BYTES = MAX_PACKET_BYTES + 33 * 64;
/** Only what is written to is ever backed by memory: some 2 KiB of each place, for packets of an ordinary MTU. */
export const DECAP_ARENA_BYTES = BATCH_PACKETS * DATAGRAM_PLACE_BYTES;
