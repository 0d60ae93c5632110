import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { FlannelError } from '../../../src/errors.js';
import { EtcdServer } from '../../../src/lab/etcd-server.js';
import { LeaseAdmin } from '../../../src/subnet/etcd/lease-admin.js';
import type { SubnetManager } from '../../../src/subnet/subnet-manager.js';
import { config, Diary, manager, PREFIX, request, SUBNETS, subnetText, until, value } from './store.js';
import { ip, prefix } from '../../support/addresses.js';

let etcd: EtcdServer;
let admin: LeaseAdmin;
let one: SubnetManager;
let abort: AbortController;

before(async () => {
  etcd = await EtcdServer.start();
});
after(() => etcd.dispose());
beforeEach(async () => {
  await etcd.delete(PREFIX, { prefix: true });
  abort = new AbortController();
  admin = new LeaseAdmin({ endpoints: etcd.endpoints, prefix: `${PREFIX}/` });
  one = manager(etcd.endpoints);
});
afterEach(() => {
  abort.abort();
  admin.close();
  one.close();
});

const refused = (pattern: RegExp) => (error: unknown) =>
  error instanceof FlannelError && error.code === 'LEASE' && pattern.test(error.message);

test('leases are listed by subnet with their expiry, those of other backends among them', async () => {
  await one.acquireLease(config(), request('192.168.64.3', '10.5.200.0/24'), abort.signal);
  await etcd.put(`${SUBNETS}10.5.34.0-24`, value('192.168.64.4'));
  await etcd.put(
    `${SUBNETS}10.5.9.0-24`,
    '{"PublicIP":"192.168.64.5","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1}}',
  );
  await etcd.put(`${SUBNETS}rubbish`, 'rubbish');
  for (const leases of [await admin.list(abort.signal), await one.listLeases(abort.signal)]) {
    assert.deepEqual(leases.map(subnetText), ['10.5.9.0/24', '10.5.34.0/24', '10.5.200.0/24']);
    assert.deepEqual(
      leases.map(({ reserved }) => reserved),
      [true, true, false],
    );
    assert.deepEqual(leases[0].backendData, { VNI: 1 });
    assert.equal(leases[1].expiresAtMs, undefined);
    const hours = ((leases[2].expiresAtMs ?? 0) - Date.now()) / 3_600_000;
    assert.ok(hours > 23.9 && hours <= 24, `${hours} h`);
  }
});

test('a reservation is taken by its node and by no other', async () => {
  const reserved = await admin.reserve(prefix('10.5.34.0/24'), ip('192.168.64.3'), abort.signal);
  assert.equal(reserved.reserved, true);
  assert.equal(await etcd.get(`${SUBNETS}10.5.34.0-24`), value('192.168.64.3'));
  const other = await one.acquireLease(config(), request('192.168.64.4', '10.5.34.0/24'), abort.signal);
  assert.notEqual(subnetText(other), '10.5.34.0/24');
  const own = await one.acquireLease(config(), request('192.168.64.3', '10.5.1.0/24'), abort.signal);
  assert.deepEqual([subnetText(own), own.reserved], ['10.5.34.0/24', true]);
  await admin.reserve(prefix('10.5.34.0/24'), ip('192.168.64.3'), abort.signal);
});

test('a subnet that another node holds, whole or in part, cannot be reserved', async () => {
  await etcd.put(`${SUBNETS}10.5.34.0-24`, value('192.168.64.4'));
  await etcd.put(`${SUBNETS}10.5.35.0-24`, 'rubbish');
  const reserve = (subnet: string, node: string) => admin.reserve(prefix(subnet), ip(node), abort.signal);
  await assert.rejects(reserve('10.5.34.0/24', '192.168.64.3'), refused(/10.5.34.0\/24 is reserved for 192.168.64.4/));
  await assert.rejects(reserve('10.5.34.0/25', '192.168.64.4'), refused(/10.5.34.0\/24 is reserved for 192.168.64.4/));
  await assert.rejects(reserve('10.5.32.0/22', '192.168.64.3'), refused(/10.5.34.0\/24 is reserved for 192.168.64.4/));
  await assert.rejects(reserve('10.5.35.0/24', '192.168.64.3'), refused(/10.5.35.0-24 is no lease/));
  assert.equal(await etcd.get(`${SUBNETS}10.5.34.0-24`), value('192.168.64.4'));
});

test("a running node's lease becomes its reservation, and a lease again when that is released", async () => {
  const lease = await one.acquireLease(config(), request('192.168.64.3', '10.5.34.0/24'), abort.signal);
  const diary = new Diary();
  void one.keepLease(lease, 3600, diary, abort.signal);
  const reserved = await admin.reserve(lease.subnet, lease.publicIp, abort.signal);
  assert.equal(reserved.reserved, true);
  await until('the reservation', () => diary.last?.reserved === true);
  const released = await admin.release(lease.subnet, abort.signal);
  assert.equal(released?.publicIp, lease.publicIp);
  await until('a lease', () => diary.last?.reserved === false && diary.last.expiresAtMs !== undefined);
  assert.equal(await etcd.get(`${SUBNETS}10.5.34.0-24`), value('192.168.64.3'));
});

test('what nobody or somebody else holds is not released', async () => {
  await etcd.put(`${SUBNETS}10.5.34.0-24`, value('192.168.64.4'));
  await assert.rejects(admin.release(prefix('10.5.33.0/24'), abort.signal), refused(/nobody holds 10.5.33.0\/24/));
  await assert.rejects(admin.release(prefix('10.5.34.0/25'), abort.signal), refused(/nobody holds 10.5.34.0\/25/));
  const asOwner = admin.release(prefix('10.5.34.0/24'), abort.signal, ip('192.168.64.3'));
  await assert.rejects(asOwner, refused(/reserved for 192.168.64.4/));
  assert.notEqual(await etcd.get(`${SUBNETS}10.5.34.0-24`), undefined);
  await etcd.put(`${SUBNETS}10.5.35.0-24`, 'rubbish');
  assert.equal(await admin.release(prefix('10.5.35.0/24'), abort.signal), undefined);
  assert.equal(await etcd.get(`${SUBNETS}10.5.35.0-24`), undefined);
});

test('the network configuration is put and read as text', async () => {
  assert.equal(await admin.networkConfigText(abort.signal), undefined);
  const text = '{ "Network": "10.5.0.0/16" }\n';
  await admin.putNetworkConfig(text, abort.signal);
  assert.equal(await admin.networkConfigText(abort.signal), text);
  assert.equal(await etcd.get(`${PREFIX}/config`), text);
});
