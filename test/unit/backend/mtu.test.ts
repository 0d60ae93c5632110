import assert from 'node:assert/strict';
import { test } from 'node:test';
import { overlayMtu } from '../../../src/backend/udp/mtu.js';

const eth0 = (mtuBytes: number): Parameters<typeof overlayMtu>[0] => ({
  name: 'eth0',
  index: 2,
  mtuBytes,
  address: 0xc0a80001,
});

test('without a wish: what the interface carries less the outer headers', () => {
  assert.deepEqual(overlayMtu(eth0(1500), undefined), { mtuBytes: 1472 });
  assert.deepEqual(overlayMtu(eth0(96), undefined), { mtuBytes: 68 });
});

test('a wish that fits is taken', () => {
  assert.deepEqual(overlayMtu(eth0(1500), 1472), { mtuBytes: 1472 });
  assert.deepEqual(overlayMtu(eth0(9000), 1400), { mtuBytes: 1400 });
});

test('a wish that does not fit is brought down, and said', () => {
  const { mtuBytes, warning } = overlayMtu(eth0(1500), 1500);
  assert.equal(mtuBytes, 1472);
  assert.match(warning ?? '', /1500 does not fit: eth0 carries 1500 bytes.*1472 is used/);
});

test('what is below the minimum of IPv4 is refused', () => {
  assert.throws(() => overlayMtu(eth0(1500), 67), /67 is below IPv4's minimum/);
  assert.throws(() => overlayMtu(eth0(95), undefined), /MTU of eth0 is 95.*at least 96/);
});
