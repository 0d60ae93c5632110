import assert from 'node:assert/strict';
import { isIPv6 } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatIpv6, formatIpv6Prefix, parseIpv6, parseIpv6Prefix } from '../../../src/subnet/ipv6-prefix.js';

test('writes addresses in the form of RFC 5952', () => {
  const cases = [
    ['0:0:0:0:0:0:0:0', '::'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['FC00:0:0:0:0:0:0:0', 'fc00::'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
  ];
  for (const [text, written] of cases) assert.equal(formatIpv6(parseIpv6(text) ?? -1n), written);
});

test('what it writes it reads back', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }), (address) => {
      assert.ok(isIPv6(formatIpv6(address)));
      assert.equal(parseIpv6(formatIpv6(address)), address);
    }),
  );
});

test('reads every form that the platform takes for IPv6', () => {
  fc.assert(fc.property(fc.ipV6(), (text) => assert.equal(parseIpv6(text) !== undefined, isIPv6(text))));
});

test('clears host bits and refuses what is no prefix', () => {
  assert.equal(formatIpv6Prefix(parseIpv6Prefix('fc00::1/64') ?? { address: 0n, length: 0 }), 'fc00::/64');
  for (const text of ['fc00::', 'fc00::/129', 'fc00::/064', 'fc00::%eth0/64', '10.0.0.0/8', '']) {
    assert.equal(parseIpv6Prefix(text), undefined, text);
  }
});
