/**
 * How a worker's memory is laid out, as `native/layout.h` has it: one arena of bytes, and for each packet a descriptor
 * of sixteen 32-bit integers. The native calls and the walks agree through nothing else, so a packet is never copied,
 * sliced or wrapped into an object on its way.
 */

/** Of the layout below; the addon states the one it was compiled with. */
export const LAYOUT_VERSION = 4;

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
/** What the kernel said to a forwarded packet: 0, or an errno value; of several the last. */
export const ERROR = 5;
/**
 * Packets that this one is on the wire: 1, or those that a super-packet (GSO) of the device is cut into; 0 when its
 * virtio header does not fit it.
 */
export const SEGMENTS = 6;
/** Outgoing: how many of them the kernel took. */
export const SENT_PACKETS = 7;
/** Their bytes. */
export const SENT_BYTES = 8;
/** Outgoing, with an {@link ERROR}: the first of them that the kernel did not take. */
export const FIRST_FAILED = 9;
/** The last of them. */
export const LAST_FAILED = 10;
/** Outgoing: how many of those that the kernel did not take are larger than the path (EMSGSIZE). */
export const TOO_BIG_PACKETS = 11;
/** When there are any: the first of them. */
export const FIRST_TOO_BIG = 12;
/** The last of them. */
export const LAST_TOO_BIG = 13;
/** Incoming, after transmit: packets that were written to the device as one, this one among them; 1 for one by itself. */
export const MERGED = 14;

/** The verdict of a packet that goes on. */
export const FORWARD = 0;

/** No read from the device and no datagram is larger. */
export const MAX_PACKET_BYTES = 65536;

/** Packets in one outgoing batch, at most; each may be a super-packet. */
export const ENCAP_BATCH_PACKETS = 128;
/** Packets read from the device lie one after the other; the last of the arena is for one that is cut out and shown. */
export const ENCAP_ARENA_BYTES = (1 << 20) + MAX_PACKET_BYTES;

/** Packets in one incoming batch, at most. */
export const DECAP_BATCH_PACKETS = 1024;
/** Datagrams, or trains of them, that one receive call takes, at most. */
const RECEIVED_DATAGRAMS = 64;
/** They are received into places of this size. */
const DATAGRAM_PLACE_BYTES = MAX_PACKET_BYTES + 33 * 64;
/** Only what is written to is ever backed by memory: of a place for packets of an ordinary MTU some 2 KiB. */
export const DECAP_ARENA_BYTES = RECEIVED_DATAGRAMS * DATAGRAM_PLACE_BYTES;
