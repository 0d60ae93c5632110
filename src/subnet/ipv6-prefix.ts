/**
 * IPv6 prefixes, as far as the network configuration and the names of dual-stack leases need them. No packet path
 * carries IPv6, so an address is a plain 128-bit bigint here.
 */
import { isIPv6 } from 'node:net';

/** An IPv6 prefix in canonical form: the bits of `address` beyond `length` are zero. */
export interface Ipv6Prefix {
  readonly address: bigint;
  /** Number of leading bits, 0 to 128. */
  readonly length: number;
}

/** Reads an IPv6 address without a zone; `undefined` for anything else. */
export function parseIpv6(text: string): bigint | undefined {
  if (!isIPv6(text) || text.includes('%')) return undefined;
  const [head, tail] = text.split('::');
  const front = groupsOf(head);
  const back = tail === undefined ? [] : groupsOf(tail);
  const gap = new Array<number>(8 - front.length - back.length).fill(0);
  return [...front, ...gap, ...back].reduce((value, group) => (value << 16n) | BigInt(group), 0n);
}

/** Reads `ADDRESS/LENGTH`; host bits are cleared, as Go's ParseCIDR does. `undefined` for anything else. */
export function parseIpv6Prefix(text: string): Ipv6Prefix | undefined {
  const slash = text.indexOf('/');
  if (slash < 0) return undefined;
  const address = parseIpv6(text.slice(0, slash));
  const digits = text.slice(slash + 1);
  if (address === undefined || !/^(0|[1-9][0-9]{0,2})$/.test(digits) || Number(digits) > 128) return undefined;
  const length = Number(digits);
  return { address: address & ipv6Mask(length), length };
}

/** Writes an address in the form of RFC 5952: lower case, the longest run of zero groups as `::`. */
export function formatIpv6(address: bigint): string {
  const groups = Array.from({ length: 8 }, (_, index) => Number((address >> BigInt(112 - 16 * index)) & 0xffffn));
  let start = -1;
  let longest = 1; // A single zero group is written out.
  for (let first = 0; first < 8; first++) {
    let end = first;
    while (end < 8 && groups[end] === 0) end++;
    if (end - first > longest) [start, longest] = [first, end - first];
  }
  const written = groups.map((group) => group.toString(16));
  if (start < 0) return written.join(':');
  return `${written.slice(0, start).join(':')}::${written.slice(start + longest).join(':')}`;
}

/** Writes a prefix as `ADDRESS/LENGTH`. */
export function formatIpv6Prefix(prefix: Ipv6Prefix): string {
  return `${formatIpv6(prefix.address)}/${prefix.length}`;
}

/** The netmask of a prefix length, 0 to 128. */
export function ipv6Mask(length: number): bigint {
  const hostBits = BigInt(128 - length);
  return ((1n << 128n) - 1n) ^ ((1n << hostBits) - 1n);
}

function groupsOf(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return [Number.parseInt(group, 16)];
    const octets = group.split('.').map(Number);
    return [(octets[0] << 8) | octets[1], (octets[2] << 8) | octets[3]];
  });
}
