import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { FlannelError, NetworkConfigError } from '../../../src/errors.js';
import { EtcdServer } from '../../../src/lab/etcd-server.js';
import { silentLogger } from '../../../src/log.js';
import type { SubnetManager } from '../../../src/subnet/subnet-manager.js';
import { config, Diary, manager, PREFIX, request, SUBNETS, subnetText, Table, until, value } from './store.js';
import { prefix } from '../../support/addresses.js';

let etcd: EtcdServer;
let managers: SubnetManager[] = [];
let signal: AbortSignal;
let abort: AbortController;

before(async () => {
  etcd = await EtcdServer.start();
});
after(() => etcd.dispose());
beforeEach(async (context) => {
  abort = new AbortController();
  signal = abort.signal;
  await etcd.delete(PREFIX, { prefix: true });
  if ('after' in context) context.after(cleanUp);
});

function cleanUp(): void {
  abort.abort();
  for (const one of managers) one.close();
  managers = [];
}

function connect(options: Parameters<typeof manager>[1] = {}): SubnetManager {
  const made = manager(etcd.endpoints, options);
  managers.push(made);
  return made;
}

/** The etcd lease behind a key, `0` when there is none. */
async function etcdLease(name: string): Promise<string> {
  const key = Buffer.from(SUBNETS + name).toString('base64');
  const answer = (await etcd.call('/v3/kv/range', { key })) as { kvs?: { lease?: string }[] };
  return answer.kvs?.[0]?.lease ?? '0';
}

test('an absent or invalid configuration is told with its key, and read again when repaired', async () => {
  const one = connect();
  const told = (pattern: RegExp) => (error: unknown) =>
    error instanceof NetworkConfigError && pattern.test(error.message) && error.message.includes(`${PREFIX}/config`);
  await assert.rejects(one.networkConfig(signal), told(/absent/));
  await etcd.put(`${PREFIX}/config`, '{');
  await assert.rejects(one.networkConfig(signal), told(/not JSON/));
  await etcd.put(`${PREFIX}/config`, '{"Network":"10.5.0.0/16"}');
  assert.deepEqual(await one.networkConfig(signal), config());
});

test('a first lease is one of the first hundred subnets, in the form flannel writes, for a day', async () => {
  const lease = await connect({ random: () => 0.5 }).acquireLease(config(), request('192.168.64.3'), signal);
  assert.equal(subnetText(lease), '10.5.51.0/24');
  assert.equal(await etcd.get(`${SUBNETS}10.5.51.0-24`), value('192.168.64.3'));
  assert.notEqual(await etcdLease('10.5.51.0-24'), '0');
  assert.equal(lease.reserved, false);
  const hours = ((lease.expiresAtMs ?? 0) - Date.now()) / 3_600_000;
  assert.ok(hours > 23.9 && hours <= 24, `${hours} h`);
});

test('a node that comes back gets its own subnet, whatever subnet.env says', async () => {
  await etcd.put(`${SUBNETS}10.5.7.0-24`, value('192.168.64.4'));
  const first = await connect().acquireLease(config(), request('192.168.64.3', '10.5.34.0/24'), signal);
  assert.equal(subnetText(first), '10.5.34.0/24');
  const before = await etcdLease('10.5.34.0-24');
  const second = await connect().acquireLease(config(), request('192.168.64.3', '10.5.35.0/24'), signal);
  assert.equal(subnetText(second), '10.5.34.0/24');
  assert.notEqual(await etcdLease('10.5.34.0-24'), before);
});

test('the previous subnet is not taken when another node holds a part of it, or when it does not fit', async () => {
  await etcd.put(`${SUBNETS}10.5.34.128-25`, value('192.168.64.4'));
  const held = await connect({ random: () => 0 }).acquireLease(
    config(),
    request('192.168.64.3', '10.5.34.0/24'),
    signal,
  );
  assert.equal(subnetText(held), '10.5.1.0/24');
  const unfit = await connect({ random: () => 0 }).acquireLease(
    config(),
    request('192.168.64.5', '10.9.0.0/24'),
    signal,
  );
  assert.equal(subnetText(unfit), '10.5.2.0/24');
});

test('an own key that does not fit the configuration any more is deleted', async () => {
  await etcd.put(`${SUBNETS}10.9.1.0-24`, value('192.168.64.3'));
  await etcd.put(`${SUBNETS}10.5.1.0-25`, value('192.168.64.3'));
  const lease = await connect({ random: () => 0 }).acquireLease(config(), request('192.168.64.3'), signal);
  assert.equal(subnetText(lease), '10.5.1.0/24');
  assert.equal(await etcd.get(`${SUBNETS}10.9.1.0-24`), undefined);
  assert.equal(await etcd.get(`${SUBNETS}10.5.1.0-25`), undefined);
});

test('a reservation stays one when its owner comes back, and is not written when nothing differs', async () => {
  await etcd.put(`${SUBNETS}10.5.34.0-24`, value('192.168.64.3'));
  await etcd.put(`${SUBNETS}10.5.35.0-24`, '{"PublicIP":"192.168.64.4"}');
  const same = await connect().acquireLease(config(), request('192.168.64.3', '10.5.1.0/24'), signal);
  assert.deepEqual([subnetText(same), same.reserved, same.expiresAtMs], ['10.5.34.0/24', true, undefined]);
  assert.equal(await etcdLease('10.5.34.0-24'), '0');
  const other = await connect().acquireLease(config(), request('192.168.64.4'), signal);
  assert.deepEqual([subnetText(other), other.reserved], ['10.5.35.0/24', true]);
  assert.equal(await etcdLease('10.5.35.0-24'), '0');
  assert.equal(await etcd.get(`${SUBNETS}10.5.35.0-24`), value('192.168.64.4'));
});

test('a network without a free subnet says so', async () => {
  const small = config({ Network: '10.5.0.0/28' });
  for (const name of ['10.5.0.4-30', '10.5.0.8-30', '10.5.0.12-30'])
    await etcd.put(SUBNETS + name, value('192.168.64.9'));
  await assert.rejects(
    connect().acquireLease(small, request('192.168.64.3'), signal),
    (error) => error instanceof FlannelError && error.code === 'LEASE' && /^out of subnets/.test(error.message),
  );
});

test('thirty nodes that start together get thirty subnets', async () => {
  const nodes = Array.from({ length: 30 }, (_, index) => `192.168.64.${index + 1}`);
  const one = connect({ random: () => 0 });
  const leases = await Promise.all(
    nodes.map(async (node) => {
      for (;;) {
        try {
          return await one.acquireLease(config(), request(node), signal);
        } catch (error) {
          assert.ok(error instanceof FlannelError && /were faster/.test(error.message), String(error));
        }
      }
    }),
  );
  assert.equal(new Set(leases.map(subnetText)).size, 30);
});

test('what nodes do is seen by all, and what is no lease is told once and skipped', async () => {
  const skipped: string[] = [];
  const warn = (line: string): void => void skipped.push(/"(.*?)"/.exec(line)?.[1] ?? line);
  await etcd.put(`${SUBNETS}10.5.1.0-24`, value('192.168.64.1'));
  await etcd.put(`${SUBNETS}rubbish`, 'rubbish');
  const table = new Table();
  const watching = connect({ logger: { ...silentLogger, warn } }).watchLeases(config(), table, signal);
  await until('the first lease', () => table.rows.size === 1);
  await etcd.put(`${SUBNETS}10.5.2.0-24`, value('192.168.64.2'));
  await etcd.put(`${SUBNETS}10.5.3.0-24`, value('192.168.64.3'));
  await etcd.put(`${SUBNETS}10.5.1.0-24`, 'rubbish');
  await etcd.put(`${SUBNETS}10.5.4.0-24`, '{"PublicIP":"192.168.64.4","PublicIPv6":null,"BackendType":"vxlan"}');
  await etcd.put(`${SUBNETS}rubbish`, 'rubbish');
  await etcd.put(`${SUBNETS}10.5.3.0-24`, value('192.168.64.33'));
  await etcd.delete(`${SUBNETS}10.5.2.0-24`);
  await until('the last change', () => table.rows.size === 1 && table.rows.get('10.5.3.0/24') === '192.168.64.33');
  assert.deepEqual(skipped, [`${SUBNETS}rubbish`, `${SUBNETS}10.5.1.0-24`, `${SUBNETS}10.5.4.0-24`]);
  abort.abort();
  await watching;
});

test('a subnet held with and without an IPv6 half stays until both keys are gone', async () => {
  const table = new Table();
  await etcd.put(`${SUBNETS}10.5.1.0-24`, value('192.168.64.1'));
  void connect().watchLeases(config(), table, signal);
  await until('the first lease', () => table.rows.size === 1);
  await etcd.put(`${SUBNETS}10.5.1.0-24&fc00::-64`, value('192.168.64.2'));
  await until('the later key', () => table.rows.get('10.5.1.0/24') === '192.168.64.2');
  await etcd.delete(`${SUBNETS}10.5.1.0-24&fc00::-64`);
  await until('the earlier key', () => table.rows.get('10.5.1.0/24') === '192.168.64.1');
  await etcd.delete(`${SUBNETS}10.5.1.0-24`);
  await until('no key', () => table.rows.size === 0);
});

test('a lease is renewed before it expires, and its key is not written for it', async () => {
  const one = connect({ ttlSeconds: 2 });
  const lease = await one.acquireLease(config(), request('192.168.64.3'), signal);
  const name = subnetText(lease).replace('/', '-');
  const before = await etcdLease(name);
  const diary = new Diary();
  void one.keepLease(lease, 60, diary, signal);
  await until('four renewals', () => diary.entries.length >= 4);
  assert.deepEqual(new Set(diary.entries), new Set(['renewed']));
  assert.equal(await etcdLease(name), before);
  assert.ok((diary.last?.expiresAtMs ?? 0) > (lease.expiresAtMs ?? 0));
});

test('a lease that was deleted is taken back at once', async () => {
  const one = connect();
  const lease = await one.acquireLease(config(), request('192.168.64.3', '10.5.34.0/24'), signal);
  const diary = new Diary();
  void one.keepLease(lease, 3600, diary, signal);
  await until('a subnet that is watched', async () => {
    await etcd.delete(`${SUBNETS}10.5.34.0-24`);
    return diary.entries.length > 0;
  });
  await until('the key', async () => (await etcd.get(`${SUBNETS}10.5.34.0-24`)) === value('192.168.64.3'));
  assert.notEqual(await etcdLease('10.5.34.0-24'), '0');
});

test('a lease whose etcd lease is revoked is taken back at once', async () => {
  const one = connect();
  const lease = await one.acquireLease(config(), request('192.168.64.3', '10.5.34.0/24'), signal);
  const diary = new Diary();
  void one.keepLease(lease, 3600, diary, signal);
  const revoked = await etcdLease('10.5.34.0-24');
  await etcd.call('/v3/lease/revoke', { ID: revoked });
  await until('the key', async () => (await etcd.get(`${SUBNETS}10.5.34.0-24`)) === value('192.168.64.3'));
  assert.notEqual(await etcdLease('10.5.34.0-24'), revoked);
});

for (const [what, theirs, owner] of [
  ["in another node's hands", value('192.168.64.4'), /192\.168\.64\.4/],
  ['overwritten with what is no lease', '{"PublicIP":7}', /a value that is no lease \(.+\)/],
] as const) {
  test(`a lease ${what} is lost, loudly, and never written over`, async () => {
    const one = connect();
    const lease = await one.acquireLease(config(), request('192.168.64.3', '10.5.34.0/24'), signal);
    const diary = new Diary();
    const keeping = one.keepLease(lease, 3600, diary, signal);
    await etcd.put(`${SUBNETS}10.5.34.0-24`, theirs);
    await keeping;
    assert.equal(diary.entries.length, 1);
    assert.match(diary.entries[0], new RegExp(`^lost: 10\\.5\\.34\\.0/24 belongs to ${owner.source} now$`));
    assert.equal(await etcd.get(`${SUBNETS}10.5.34.0-24`), theirs);
  });
}

test('a subnet is not taken back when its addresses are leased under another length', async () => {
  const one = connect();
  const lease = await one.acquireLease(config(), request('192.168.64.3', '10.5.34.0/24'), signal);
  await etcd.put(`${SUBNETS}10.5.34.0-25`, value('192.168.64.4'));
  const diary = new Diary();
  const keeping = one.keepLease(lease, 3600, diary, signal);
  await etcd.delete(`${SUBNETS}10.5.34.0-24`);
  await keeping;
  assert.deepEqual(diary.entries, ['lost: 10.5.34.0/24 was deleted, and 10.5.34.0-25 has taken its addresses']);
  assert.equal(await etcd.get(`${SUBNETS}10.5.34.0-24`), undefined);
});

test('a lease that an operator turns into a reservation is one from then on', async () => {
  const one = connect();
  const lease = await one.acquireLease(config(), request('192.168.64.3', '10.5.34.0/24'), signal);
  const diary = new Diary();
  void one.keepLease(lease, 3600, diary, signal);
  await etcd.put(`${SUBNETS}10.5.34.0-24`, value('192.168.64.3'));
  await until('the reservation', () => diary.last?.reserved === true);
  assert.equal(diary.last?.expiresAtMs, undefined);
  assert.deepEqual(diary.last?.subnet, prefix('10.5.34.0/24'));
});
