/** The Internet checksum: RFC 1071, and RFC 1624 for changing it when the data changes. */

/**
 * One's complement sum of `length` bytes at `offset`, taken as big-endian 16-bit words (an odd last byte is the high
 * half of a word), added to `sum`. Not folded: up to 64 KiB stay far below 2^53.
 */
export function checksumAdd(buffer: Buffer, offset: number, length: number, sum = 0): number {
  const end = offset + (length & ~1);
  for (let at = offset; at < end; at += 2) sum += (buffer[at] << 8) | buffer[at + 1];
  if ((length & 1) !== 0) sum += buffer[end] << 8;
  return sum;
}

/** Folds a sum to 16 bits and complements it: what stands in a header. */
export function checksumFinish(sum: number): number {
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}

/** The checksum of `length` bytes at `offset`; 0 when they hold a correct checksum already. */
export function checksum(buffer: Buffer, offset: number, length: number): number {
  return checksumFinish(checksumAdd(buffer, offset, length));
}

/**
 * What a checksum becomes when one 16-bit word under it changes (RFC 1624, equation 3): HC' = ~(~HC + ~m + m').
 * The result is never 0xffff unless every word under it is zero, as with full recomputation.
 */
export function checksumUpdate(before: number, oldWord: number, newWord: number): number {
  let sum = (~before & 0xffff) + (~oldWord & 0xffff) + newWord;
  sum = (sum & 0xffff) + (sum >>> 16);
  sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
