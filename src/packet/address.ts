/**
 * IPv4 addresses as unsigned 32-bit integers in host order (10.5.34.0 is 0x0a052200), and prefixes over them.
 * An integer costs nothing to copy, compare or look up; text is for people and for the store.
 */

/** An IPv4 prefix in canonical form: the bits of `address` beyond `length` are zero. */
export interface Ipv4Prefix {
  readonly address: number;
  /** Number of leading bits, 0 to 32. */
  readonly length: number;
}

const DOT = 46;
const ZERO = 48;

/** Reads a dotted quad; `undefined` for anything else (leading zeros included, since readers disagree on them). */
export function parseIpv4(text: string): number | undefined {
  let address = 0;
  let dots = 0;
  // -1: it has no digit yet.
  let octet = -1;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === DOT) {
      if (octet < 0 || dots === 3) return undefined;
      address = address * 256 + octet;
      dots++;
      octet = -1;
      continue;
    }
    const digit = code - ZERO;
    if (digit < 0 || digit > 9 || octet === 0) return undefined;
    octet = octet < 0 ? digit : octet * 10 + digit;
    if (octet > 255) return undefined;
  }
  return octet < 0 || dots < 3 ? undefined : address * 256 + octet;
}

/** Writes an address as a dotted quad. */
export function formatIpv4(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** The netmask of a prefix length, 0 to 32: `prefixMask(24)` is 0xffffff00. */
export function prefixMask(length: number): number {
  return length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0;
}

/** The prefix of `length` bits that holds `address`. */
export function prefixOf(address: number, length: number): Ipv4Prefix {
  return { address: (address & prefixMask(length)) >>> 0, length };
}

/** Reads `a.b.c.d/len`; host bits are cleared, as Go's ParseCIDR does. `undefined` for anything else. */
export function parsePrefix(text: string): Ipv4Prefix | undefined {
  const slash = text.indexOf('/');
  if (slash < 0) return undefined;
  const address = parseIpv4(text.slice(0, slash));
  const digits = text.slice(slash + 1);
  if (address === undefined || !/^(0|[1-9][0-9]?)$/.test(digits) || Number(digits) > 32) return undefined;
  return prefixOf(address, Number(digits));
}

/** Writes a prefix as `a.b.c.d/len`. */
export function formatPrefix(prefix: Ipv4Prefix): string {
  return `${formatIpv4(prefix.address)}/${prefix.length}`;
}

/** Whether `address` lies in `prefix`. */
export function prefixContains(prefix: Ipv4Prefix, address: number): boolean {
  return (address & prefixMask(prefix.length)) >>> 0 === prefix.address;
}

/** Whether `inner` lies in `outer` entirely (equal prefixes do). */
export function prefixCovers(outer: Ipv4Prefix, inner: Ipv4Prefix): boolean {
  return inner.length >= outer.length && prefixContains(outer, inner.address);
}

/** Whether two prefixes share an address. */
export function prefixesOverlap(a: Ipv4Prefix, b: Ipv4Prefix): boolean {
  return a.length <= b.length ? prefixContains(a, b.address) : prefixContains(b, a.address);
}

/** Whether two prefixes are the same. */
export function prefixesEqual(a: Ipv4Prefix, b: Ipv4Prefix): boolean {
  return a.address === b.address && a.length === b.length;
}

/**
 * A number that no other prefix has, to look it up by: its bits, a one behind them and zeros to the end, as a signed
 * integer, which costs a map no memory of its own. A single address has no room for the one.
 */
export function prefixKey({ address, length }: Ipv4Prefix): number {
  return length === 32 ? 2 ** 32 + address : address | (1 << (31 - length));
}

/** The last address of a prefix. */
export function lastAddress(prefix: Ipv4Prefix): number {
  return (prefix.address | ~prefixMask(prefix.length)) >>> 0;
}
