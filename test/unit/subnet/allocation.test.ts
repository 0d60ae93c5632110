import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FlannelError } from '../../../src/errors.js';
import { prefixesOverlap, prefixOf } from '../../../src/packet/address.js';
import type { Ipv4Prefix } from '../../../src/packet/address.js';
import { allocateSubnet, freeSubnets, subnetFits } from '../../../src/subnet/allocation.js';
import { prefix } from '../../support/addresses.js';

const RANGE = {
  subnetLength: 24,
  subnetMin: prefix('10.5.1.0/24').address,
  subnetMax: prefix('10.5.255.0/24').address,
};
const WHOLE = { subnetLength: 28, subnetMin: 0, subnetMax: 0xfffffff0 };

test('free subnets ascend from the first and leave out whatever overlaps, longer and shorter alike', () => {
  const taken = ['10.5.1.0/24', '10.5.2.128/25', '10.5.4.0/22', '10.5.9.7/32', '10.9.0.0/16'].map(prefix);
  const wanted = ['10.5.3.0/24', '10.5.8.0/24', '10.5.10.0/24'].map(prefix);
  assert.deepEqual(freeSubnets(RANGE, taken, 3), wanted);
});

test('a short prefix that begins before the range covers it', () => {
  assert.deepEqual(freeSubnets(RANGE, [prefix('10.0.0.0/8')], 100), []);
  assert.deepEqual(freeSubnets(RANGE, [prefix('10.0.0.0/8'), prefix('10.5.1.0/24')], 100), []);
});

test('the range may touch both ends of the address space', () => {
  assert.deepEqual(freeSubnets({ ...WHOLE, subnetMin: 0xffffffe0 }, [prefix('255.255.255.240/28')], 9), [
    prefix('255.255.255.224/28'),
  ]);
});

test('free subnets are just those that a plain search finds', () => {
  const lease = fc
    .tuple(fc.integer({ min: 0x0a04fe00, max: 0x0a050fff }), fc.integer({ min: 18, max: 32 }))
    .map(([address, length]) => prefixOf(address, length));
  const range = { subnetLength: 26, subnetMin: 0x0a050040, subnetMax: 0x0a050f80 };
  fc.assert(
    fc.property(fc.array(lease, { maxLength: 30 }), fc.integer({ min: 1, max: 100 }), (taken, limit) => {
      const expected: Ipv4Prefix[] = [];
      for (let address = range.subnetMin; address <= range.subnetMax && expected.length < limit; address += 64) {
        const subnet = { address, length: 26 };
        if (!taken.some((other) => prefixesOverlap(other, subnet))) expected.push(subnet);
      }
      assert.deepEqual(freeSubnets(range, taken, limit), expected);
    }),
  );
});

test('picks among the first hundred free subnets', () => {
  const limits: number[] = [];
  const last = (limit: number) => {
    limits.push(limit);
    return limit - 1;
  };
  assert.deepEqual(allocateSubnet(RANGE, [prefix('10.5.1.0/24')], last), prefix('10.5.101.0/24'));
  assert.deepEqual(limits, [100]);
});

test('says so when no subnet is free', () => {
  assert.throws(
    () => allocateSubnet(RANGE, [prefix('10.5.0.0/16')], () => 0),
    (error) => error instanceof FlannelError && error.code === 'LEASE' && /^out of subnets: .*\/24/.test(error.message),
  );
});

test('a subnet fits when its length is right and it lies between the first and the last', () => {
  assert.equal(subnetFits(RANGE, prefix('10.5.1.0/24')), true);
  assert.equal(subnetFits(RANGE, prefix('10.5.255.0/24')), true);
  assert.equal(subnetFits(RANGE, prefix('10.5.0.0/24')), false);
  assert.equal(subnetFits(RANGE, prefix('10.6.0.0/24')), false);
  assert.equal(subnetFits(RANGE, prefix('10.5.2.0/25')), false);
});

test('65,535 leases and one free subnet at the end take no noticeable time', () => {
  const range = { subnetLength: 24, subnetMin: 0x0a000000, subnetMax: 0x0affff00 };
  const taken = Array.from({ length: 65535 }, (_, index) => ({ address: 0x0a000000 + index * 256, length: 24 }));
  const reads = { count: 0 };
  const counted = taken.map((lease) => ({
    length: lease.length,
    get address() {
      reads.count++;
      return lease.address;
    },
  }));
  assert.deepEqual(freeSubnets(range, counted, 100), [{ address: 0x0affff00, length: 24 }]);
  assert.ok(reads.count < 65535 * 40, `${reads.count} reads`);
});
