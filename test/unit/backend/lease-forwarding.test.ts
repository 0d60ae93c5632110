import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LeaseForwarding } from '../../../src/backend/udp/lease-forwarding.js';
import { ForwardingTable, NO_LEASE, OWN_SUBNET } from '../../../src/dataplane/forwarding-table.js';
import { silentLogger } from '../../../src/log.js';
import { parsePrefix } from '../../../src/packet/address.js';
import type { Lease } from '../../../src/subnet/lease.js';
import { ip } from '../../support/addresses.js';

function lease(subnet: string, publicIp: string, backendType = ''): Lease {
  const parsed = parsePrefix(subnet);
  assert.ok(parsed !== undefined, subnet);
  return { subnet: parsed, publicIp: ip(publicIp), publicIpv6: null, backendType, reserved: false };
}

function setUp(): { table: ForwardingTable; forwarding: LeaseForwarding; lines: string[] } {
  const lines: string[] = [];
  const network = lease('10.5.0.0/16', '0.0.0.0').subnet;
  const table = ForwardingTable.create({ network, subnetLength: 24 });
  const forwarding = new LeaseForwarding({
    table,
    network,
    ownSubnet: lease('10.5.1.0/24', '0.0.0.0').subnet,
    ownUnderlayAddresses: [ip('192.168.0.1'), ip('203.0.113.1')],
    port: 8285,
    backendType: 'udp',
    logger: { ...silentLogger, warn: (message) => void lines.push(message) },
  });
  return { table, forwarding, lines };
}

test('own lease, peers, and other backends: each where it belongs', () => {
  const { table, forwarding, lines } = setUp();
  forwarding.replaceAll([
    lease('10.5.1.0/24', '203.0.113.1'),
    lease('10.5.2.0/24', '192.168.0.2'),
    lease('10.5.3.0/24', '192.168.0.3', 'udp'),
    lease('10.5.4.0/24', '192.168.0.4', 'vxlan'),
  ]);
  assert.equal(table.lookup(ip('10.5.1.9')), OWN_SUBNET);
  assert.equal(table.slotAddress(table.lookup(ip('10.5.2.9'))), ip('192.168.0.2'));
  assert.equal(table.slotPort(table.lookup(ip('10.5.3.9'))), 8285);
  assert.equal(table.lookup(ip('10.5.4.9')), NO_LEASE);
  assert.deepEqual(lines, []);
});

test('a change of owner, and a removal', () => {
  const { table, forwarding } = setUp();
  forwarding.change([lease('10.5.2.0/24', '192.168.0.2')], []);
  forwarding.change([lease('10.5.2.0/24', '192.168.0.5')], []);
  assert.equal(table.slotAddress(table.lookup(ip('10.5.2.9'))), ip('192.168.0.5'));
  assert.equal(table.isMember(ip('192.168.0.2')), false);
  forwarding.change([], [lease('10.5.2.0/24', '0.0.0.0').subnet]);
  assert.equal(table.lookup(ip('10.5.2.9')), NO_LEASE);
});

test('a lease that turns into one not to be forwarded to is taken out of the table', () => {
  const { table, forwarding } = setUp();
  forwarding.change([lease('10.5.2.0/24', '192.168.0.2')], []);
  forwarding.change([lease('10.5.2.0/24', '192.168.0.2', 'vxlan')], []);
  assert.equal(table.lookup(ip('10.5.2.9')), NO_LEASE);
});

test('a left-over lease of this node is never forwarded to, which would be a loop, and is said once', () => {
  const { table, forwarding, lines } = setUp();
  for (let round = 0; round < 3; round++) {
    forwarding.replaceAll([lease('10.5.8.0/24', '203.0.113.1'), lease('10.5.9.0/24', '192.168.0.1')]);
  }
  assert.equal(table.lookup(ip('10.5.8.9')), NO_LEASE);
  assert.equal(table.lookup(ip('10.5.9.9')), NO_LEASE);
  assert.equal(table.isMember(ip('192.168.0.1')), false);
  assert.equal(lines.length, 2);
  assert.match(lines[0], /10\.5\.8\.0\/24 names this node's own address 203\.0\.113\.1/);
});

test("another node's claim on this node's subnet does not move it, and is said once", () => {
  const { table, forwarding, lines } = setUp();
  forwarding.change([lease('10.5.1.0/24', '192.168.0.9')], []);
  forwarding.change([lease('10.5.1.0/24', '192.168.0.9')], []);
  assert.equal(table.lookup(ip('10.5.1.9')), OWN_SUBNET);
  assert.equal(lines.length, 1);
});

test('overlaps and nonsense are said once each', () => {
  const { table, forwarding, lines } = setUp();
  const leases = [
    lease('10.5.32.0/20', '192.168.0.2'),
    lease('10.5.33.0/24', '192.168.0.3'),
    lease('10.6.0.0/24', '192.168.0.4'),
    lease('10.5.7.0/24', '0.0.0.0'),
  ];
  for (let round = 0; round < 3; round++) forwarding.replaceAll(leases);
  assert.equal(lines.length, 3);
  assert.equal(table.slotAddress(table.lookup(ip('10.5.33.1'))), ip('192.168.0.3'));
  assert.equal(table.slotAddress(table.lookup(ip('10.5.34.1'))), ip('192.168.0.2'));
});

test('a lease whose public IP lies inside the Network is not forwarded to, and one line says why', () => {
  const { table, forwarding, lines } = setUp();
  const looping = [lease('10.5.2.0/24', '10.5.2.9'), lease('10.5.3.0/24', '10.5.77.1')];
  forwarding.replaceAll(looping);
  forwarding.change(looping, []);
  assert.equal(table.lookup(ip('10.5.2.1')), NO_LEASE);
  assert.equal(table.lookup(ip('10.5.3.1')), NO_LEASE);
  assert.equal(table.isMember(ip('10.5.2.9')), false);
  assert.equal(lines.length, 2);
  assert.match(lines[0], /lease of 10\.5\.2\.0\/24 names 10\.5\.2\.9, which lies inside the Network 10\.5\.0\.0\/16/);
});
