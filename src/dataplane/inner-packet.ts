/** What both directions do to an inner packet, where it lies in the arena. */
import { decrementTtl } from '../packet/ipv4.js';
import { FORWARD, LENGTH, OFFSET } from './descriptors.js';
import { DropReason } from './drop-reasons.js';

/**
 * Holds the packet of the descriptor at `at` against what its own header says, and cuts off what lies beyond its total
 * length (padding of some link; RFC 894).
 * @returns FORWARD, or why the packet cannot go on
 */
export function examine(arena: Buffer, descriptors: Int32Array, at: number): number {
  const offset = descriptors[at + OFFSET];
  const length = descriptors[at + LENGTH];
  if (length < 1) return DropReason.Truncated;
  const first = arena[offset];
  if (first >>> 4 !== 4) return DropReason.NotIpv4;
  if (length < 20) return DropReason.Truncated;
  const headerBytes = (first & 0x0f) << 2;
  const totalBytes = (arena[offset + 2] << 8) | arena[offset + 3];
  if (headerBytes < 20 || totalBytes < headerBytes || totalBytes > length) return DropReason.Truncated;
  descriptors[at + LENGTH] = totalBytes;
  return FORWARD;
}

/** Takes one hop off the packet's TTL, its checksum along. `false`, and nothing is changed, when this was the last. */
export function decrementTtlUnlessLast(arena: Buffer, offset: number): boolean {
  if (arena[offset + 8] <= 1) return false;
  decrementTtl(arena, offset);
  return true;
}
