/** Addresses and prefixes as a test writes them. */
import assert from 'node:assert/strict';
import { parseIpv4, parsePrefix, type Ipv4Prefix } from '../../src/packet/address.js';

export function ip(text: string): number {
  return parseIpv4(text) ?? assert.fail(`${text} is no IPv4 address`);
}

export function prefix(text: string): Ipv4Prefix {
  return parsePrefix(text) ?? assert.fail(`${text} is no prefix`);
}
