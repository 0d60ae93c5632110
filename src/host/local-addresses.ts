/** The IPv4 addresses that the kernel takes as this host's own. */
import { readFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { parseIpv4 } from '../packet/address.js';

/**
 * Lists them as the routing table has them, so that those of an interface without carrier (a bridge without pods, for
 * one) are among them. Where the kernel does not show that table, those of the interfaces that are up.
 */
export async function localAddresses(): Promise<number[]> {
  try {
    return parseFibTrie(await readFile('/proc/net/fib_trie', 'latin1'));
  } catch {
    return Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .filter(({ family }) => family === 'IPv4')
      .map(({ address }) => parseIpv4(address))
      .filter((address) => address !== undefined);
  }
}

/**
 * Picks the local addresses out of `/proc/net/fib_trie`: a leaf names an address (`|-- 10.5.34.1`), the lines below it
 * say what routes it has there (`/32 host LOCAL`).
 */
export function parseFibTrie(text: string): number[] {
  const found = new Set<number>();
  let leaf: number | undefined;
  for (const line of text.split('\n')) {
    const trimmed = line.trim();
    if (trimmed.startsWith('|-- ')) leaf = parseIpv4(trimmed.slice(4));
    else if (trimmed === '/32 host LOCAL' && leaf !== undefined) found.add(leaf);
  }
  return [...found];
}
