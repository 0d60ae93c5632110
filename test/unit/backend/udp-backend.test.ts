import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BACKEND_TYPES } from '../../../src/backend/backend-types.js';
import { backendOfType } from '../../../src/backend/registry.js';
import { NetworkConfigError } from '../../../src/errors.js';
import type { NetworkConfig } from '../../../src/subnet/network-config.js';

const config: NetworkConfig = {
  network: { address: 0x0a050000, length: 16 },
  subnetLength: 24,
  subnetMin: 0x0a050100,
  subnetMax: 0x0a05ff00,
  enableIpv4: true,
  enableIpv6: false,
  enableNftables: false,
  backend: { type: 'udp', port: 8285 },
};
const external = { name: 'eth0', index: 2, mtuBytes: 1500, address: 0xc0a84001 };

test('every backend that is named exists, and goes by that name', async () => {
  for (const type of BACKEND_TYPES) assert.equal((await backendOfType(type)).type, type);
});

test('an unknown backend is refused with the list of those that exist', async () => {
  for (const type of ['wireguard', 'toString', '']) {
    await assert.rejects(backendOfType(type), (error) => {
      assert.ok(error instanceof NetworkConfigError);
      assert.match(error.message, /^Backend\.Type ".*" is not a backend of this flanneld: choose one of udp$/);
      return true;
    });
  }
});

test('udp refuses what it cannot carry, by the key that must change', async () => {
  const udp = await backendOfType('udp');
  udp.validate(config, external);
  assert.throws(
    () => udp.validate({ ...config, enableIpv6: true }, external),
    /^NetworkConfigError: EnableIPv6 is true/,
  );
  assert.throws(() => udp.validate({ ...config, enableIpv4: false }, external), /^NetworkConfigError: EnableIPv4 is/);
  assert.throws(() => udp.validate(config, { ...external, mtuBytes: 90 }), /MTU of eth0 is 90/);
});

test("udp's leases name no backend, as flannel writes them", async () => {
  assert.deepEqual((await backendOfType('udp')).leaseAttributes(), { backendType: '' });
});
