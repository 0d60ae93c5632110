import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { prefixOf } from '../../../src/packet/address.js';
import { formatIpv6, ipv6Mask } from '../../../src/subnet/ipv6-prefix.js';
import { formatLeaseKey, parseLeaseKey } from '../../../src/subnet/lease-key.js';

const ipv4Subnet = fc
  .tuple(fc.nat(0xffffffff), fc.integer({ min: 1, max: 31 }))
  .map(([address, length]) => prefixOf(address, length));
const ipv6Subnet = fc
  .tuple(fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }), fc.integer({ min: 0, max: 128 }))
  .map(([address, length]) => `${formatIpv6(address & ipv6Mask(length))}/${length}`);

test('reads both forms of a name', () => {
  const subnet = { address: 0x0a052200, length: 24 };
  assert.deepEqual(parseLeaseKey('10.5.34.0-24'), { subnet });
  assert.deepEqual(parseLeaseKey('10.5.34.0-24&fc00::-64'), { subnet, ipv6Subnet: 'fc00::/64' });
});

test('what it writes it reads back, whatever the subnet', () => {
  fc.assert(
    fc.property(ipv4Subnet, fc.option(ipv6Subnet, { nil: undefined }), (subnet, ipv6) => {
      const key = ipv6 === undefined ? { subnet } : { subnet, ipv6Subnet: ipv6 };
      assert.deepEqual(parseLeaseKey(formatLeaseKey(key)), key);
    }),
  );
});

test('a name that is read is written back letter for letter', () => {
  const piece = fc.constantFrom('10.5.34.0', '-', '24', '&', 'fc00::', '64', '0', '/', '.', ':', '08');
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(piece).map((pieces) => pieces.join('')),
      ),
      (name) => {
        const key = parseLeaseKey(name);
        if (key !== undefined) assert.equal(formatLeaseKey(key), name);
      },
    ),
    { numRuns: 2000 },
  );
});

test('refuses names that no flannel writes', () => {
  const names = [
    '',
    'config',
    '10.5.34.0',
    '10.5.34.0/24',
    '10.5.34.0-33',
    '10.5.34.0-32',
    '0.0.0.0-0',
    '10.5.34.0-024',
    '10.5.034.0-24',
    '10.5.34.1-24',
    '10.5.34-24',
    'x10.5.34.0-24',
    '10.5.34.0-24 ',
    '10.5.34.0-24&',
    '10.5.34.0-24&fc00::',
    '10.5.34.0-24&fc00::-129',
    '10.5.34.0-24&fc00:::-64',
    '10.5.34.0-24&10.0.0.0-8',
  ];
  for (const name of names) assert.equal(parseLeaseKey(name), undefined, name);
});
