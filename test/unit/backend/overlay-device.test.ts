import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertRouteIsFree, chooseOverlayDevice } from '../../../src/backend/udp/overlay-device.js';
import { linkAlias } from '../../../src/host/link.js';
import type { Route } from '../../../src/host/routes.js';

const own = linkAlias('/coreos.com/network');
const other = linkAlias('/other');

const choices: [string, { name: string; alias?: string }[], { name: string; exists: boolean }][] = [
  ['nothing there', [{ name: 'eth0' }], { name: 'flannel0', exists: false }],
  ['its own from before', [{ name: 'flannel0', alias: own }], { name: 'flannel0', exists: true }],
  ['that of another network', [{ name: 'flannel0', alias: other }], { name: 'flannel1', exists: false }],
  ["flannel's own, without an alias", [{ name: 'flannel0' }], { name: 'flannel1', exists: false }],
  [
    'its own behind that of another network',
    [
      { name: 'flannel0', alias: other },
      { name: 'flannel2', alias: own },
    ],
    { name: 'flannel2', exists: true },
  ],
  [
    'a gap between others',
    [
      { name: 'flannel0', alias: other },
      { name: 'flannel2', alias: other },
    ],
    { name: 'flannel1', exists: false },
  ],
  ['a kernel vxlan device, which is no TUN', [{ name: 'flannel.1', alias: own }], { name: 'flannel0', exists: false }],
];
for (const [name, interfaces, expected] of choices) {
  test(`the device to open, with ${name}`, () => {
    assert.deepEqual(chooseOverlayDevice(interfaces, '/coreos.com/network'), expected);
  });
}

const NETWORK = { address: 0x0a050000, length: 16 };
const route = (changes: Partial<Route>): Route => ({
  destination: NETWORK,
  type: 'unicast',
  metric: 0,
  linkDown: false,
  ...changes,
});

test('a route by a living device is refused by name', () => {
  assert.throws(
    () => assertRouteIsFree([route({ device: 'flannel0' }), route({ device: 'eth1' })], NETWORK, 'flannel0'),
    /10\.5\.0\.0\/16 is routed to eth1 already.*ip route delete 10\.5\.0\.0\/16 dev eth1/,
  );
});

test("its own route, a dead daemon's, a blackhole and routes elsewhere are no obstacle", () => {
  const routes = [
    route({ device: 'flannel0' }),
    route({ device: 'flannel7', linkDown: true }),
    route({ type: 'blackhole' }),
    route({ device: 'eth1', destination: { address: 0x0a050000, length: 24 } }),
  ];
  assert.doesNotThrow(() => assertRouteIsFree(routes, NETWORK, 'flannel0'));
});
