import assert from 'node:assert/strict';
import { isIPv4 } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatIpv4, parseIpv4, prefixesEqual, prefixKey, prefixOf } from '../../../src/packet/address.js';

const address = fc.integer({ min: 0, max: 0xffffffff });

test('an address is read as it is written', () => {
  fc.assert(fc.property(address, (one) => parseIpv4(formatIpv4(one)) === one));
});

test("what is no dotted quad by Node's account is none here, and what is one is one", () => {
  const parts = fc.oneof(
    fc.nat({ max: 300 }).map(String),
    fc.constantFrom('', '00', '01', '0', '-1', '1e1', ' 1', '٣'),
  );
  const texts = fc.oneof(
    fc.string(),
    fc.array(parts, { maxLength: 6 }).map((some) => some.join('.')),
  );
  fc.assert(fc.property(texts, (text) => (parseIpv4(text) !== undefined) === isIPv4(text)));
});

test('two prefixes have one key when they are one', () => {
  const near = fc.tuple(fc.oneof(address, fc.constantFrom(0, 0x80000000, 0xffffffff)), fc.integer({ min: 0, max: 32 }));
  const prefix = near.map(([one, length]) => prefixOf(one, length));
  fc.assert(
    fc.property(prefix, prefix, (one, other) => (prefixKey(one) === prefixKey(other)) === prefixesEqual(one, other)),
    { numRuns: 2000 },
  );
  const nested = Array.from({ length: 33 }, (_, length) => prefixKey(prefixOf(0xc0a84000, length)));
  assert.equal(new Set(nested).size, nested.length);
});
