/**
 * Writes packet `segment` of those that a descriptor's packet is on the wire, with -1 the super-packet itself, into the
 * last `MAX_PACKET_BYTES` of an outgoing worker's arena, its checksums complete. Of its payload no more is written than
 * makes `keptBytes`.
 * @returns the bytes that the packet has, written or not
 */
export type CutPacket = (descriptor: number, segment: number, keptBytes: number) => number;

/** A batch of packets for who shows them to the main thread. */
export interface ShownBatch {
  /** Where they are shown. */
  readonly shared: SharedArrayBuffer;
  readonly direction: 'encap' | 'decap';
  readonly arena: Buffer;
  readonly descriptors: Int32Array;
  /** The way in has none: there every descriptor is one packet of the wire. */
  readonly cut?: CutPacket;
  /** Where `cut` writes. */
  readonly cutOffset?: number;
}
