/** What becomes of leases when something goes badly wrong around them; with a real etcd. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { NetworkConfigError } from '../../../src/errors.js';
import { EtcdServer } from '../../../src/lab/etcd-server.js';
import { EtcdConnection } from '../../../src/subnet/etcd/connection.js';
import { DEFAULT_TIMINGS, etcdTargets } from '../../../src/subnet/etcd/options.js';
import { watch } from '../../../src/subnet/etcd/watch-stream.js';
import type { Lease } from '../../../src/subnet/lease.js';
import { formatNetworkConfig } from '../../../src/subnet/network-config.js';
import type { SubnetManager } from '../../../src/subnet/subnet-manager.js';
import { Proxy } from './proxy.js';
import {
  config,
  Diary,
  FAST,
  FAST_PINGS,
  manager,
  PREFIX,
  request,
  SUBNETS,
  subnetText,
  Table,
  type TestManagerOptions,
  until,
  value,
} from './store.js';
import { ip } from '../../support/addresses.js';

/** Notices a dead connection as soon as a test can wait for. */
/** Longer than either of two machines with one address waits before it writes again. */
const SETTLED_MS = 7_000;

let etcd: EtcdServer;
let abort: AbortController;
const managers: SubnetManager[] = [];
const proxies: Proxy[] = [];

before(async () => {
  etcd = await EtcdServer.start(FAST_PINGS);
});
after(() => etcd.dispose());
beforeEach(async () => {
  abort = new AbortController();
  await etcd.delete(PREFIX, { prefix: true });
});
afterEach(() => {
  abort.abort();
  for (const one of managers.splice(0)) one.close();
  for (const proxy of proxies.splice(0)) proxy.close();
});

function connect(options: TestManagerOptions = {}, endpoints: readonly string[] = etcd.endpoints): SubnetManager {
  const made = manager(endpoints, { timings: FAST, ...options });
  managers.push(made);
  return made;
}

/** Takes a subnet and keeps it. */
async function node(one: SubnetManager, publicIp: string, previous?: string): Promise<{ lease: Lease; diary: Diary }> {
  const lease = await one.acquireLease(config(), request(publicIp, previous), abort.signal);
  const diary = new Diary();
  void one.keepLease(lease, 3600, diary, abort.signal);
  return { lease, diary };
}

/** The etcd lease behind a key and the revision of its last write. */
async function keyOf(name: string): Promise<{ lease: string; modRevision: string } | undefined> {
  const key = Buffer.from(SUBNETS + name).toString('base64');
  const answer = (await etcd.call('/v3/kv/range', { key })) as { kvs?: { lease?: string; mod_revision: string }[] };
  const found = answer.kvs?.at(0);
  return found && { lease: found.lease ?? '0', modRevision: found.mod_revision };
}

async function untilKey(name: string, owner: string): Promise<void> {
  await until(`${name} of ${owner}`, async () => (await etcd.get(SUBNETS + name)) === value(owner));
}

/** A node with 10.5.34.0/24 that etcd cannot be reached from any more. */
async function cutOff() {
  const proxy = await Proxy.before(etcd.endpoints);
  proxies.push(proxy);
  const one = connect({ ttlSeconds: 2, renewRetryMs: 100 }, [proxy.endpoint]);
  const { lease, diary } = await node(one, '192.168.64.3', '10.5.34.0/24');
  await until('a renewal', () => diary.entries.includes('renewed'));
  proxy.cut();
  return { proxy, one, lease, diary };
}

test('a node that is cut off says so when its lease must have run out, and takes it back when nobody has it', async () => {
  const { proxy, lease, diary } = await cutOff();
  await until('the expiry', () => diary.entries.includes('expired'));
  await until('the end of the key', async () => (await keyOf('10.5.34.0-24')) === undefined);
  proxy.mend();
  await until('a renewal after it', () => diary.entries.at(-1) === 'renewed');
  await untilKey('10.5.34.0-24', '192.168.64.3');
  assert.ok((diary.last?.expiresAtMs ?? 0) > (lease.expiresAtMs ?? 0));
  assert.equal(diary.entries.filter((entry) => entry === 'expired').length, 1);
});

test('a node that is cut off until another has its subnet leaves it alone, and gets another', async () => {
  const { proxy, one, lease, diary } = await cutOff();
  await until('the end of the key', async () => (await keyOf('10.5.34.0-24')) === undefined);
  const other = await connect().acquireLease(config(), request('192.168.64.4', '10.5.34.0/24'), abort.signal);
  assert.deepEqual(other.subnet, lease.subnet);
  const theirs = await keyOf('10.5.34.0-24');
  proxy.mend();
  await until('the loss', () => diary.entries.at(-1) === 'lost: 10.5.34.0/24 belongs to 192.168.64.4 now');
  const asked = { ...request('192.168.64.3', '10.5.34.0/24'), formerPublicIp: ip('192.168.64.3') };
  const next = await one.acquireLease(config(), asked, abort.signal);
  assert.notEqual(subnetText(next), '10.5.34.0/24');
  assert.deepEqual(await keyOf('10.5.34.0-24'), theirs, 'nobody wrote it');
});

test('a node whose address changes keeps its subnet under the new one', async () => {
  const one = connect();
  const { lease } = await node(one, '192.168.64.3', '10.5.34.0/24');
  const moving = { ...request('192.168.64.33', '10.5.34.0/24'), formerPublicIp: ip('192.168.64.3') };
  const moved = await one.acquireLease(config(), moving, abort.signal);
  assert.deepEqual(moved.subnet, lease.subnet);
  assert.equal(await etcd.get(`${SUBNETS}10.5.34.0-24`), value('192.168.64.33'));
});

test('a node whose address another has been given since does not take the lease that is now the other’s', async () => {
  const one = connect();
  const ended = new AbortController();
  const lease = await one.acquireLease(config(), request('192.168.64.3', '10.5.34.0/24'), abort.signal);
  void one.keepLease(lease, 3600, new Diary(), ended.signal);
  ended.abort();
  // The other machine starts with the address, and finds the lease that goes with it.
  await connect().acquireLease(config(), request('192.168.64.3'), abort.signal);
  const theirs = await keyOf('10.5.34.0-24');
  const moving = { ...request('192.168.64.33', '10.5.34.0/24'), formerPublicIp: ip('192.168.64.3') };
  const moved = await one.acquireLease(config(), moving, abort.signal);
  assert.notEqual(subnetText(moved), '10.5.34.0/24');
  assert.deepEqual(await keyOf('10.5.34.0-24'), theirs);
});

test('two machines with one public IP both find out, and then leave the lease alone', async () => {
  const first = await node(connect(), '192.168.64.3', '10.5.34.0/24');
  const second = await node(connect(), '192.168.64.3', '10.5.34.0/24');
  assert.deepEqual(second.lease.subnet, first.lease.subnet);
  const shared = (diary: Diary) => diary.entries.filter((entry) => /^shared: .*192\.168\.64\.3/.test(entry)).length;
  await until('the first knows', () => shared(first.diary) > 0);
  await until('the second knows', () => shared(second.diary) > 0);
  // Both have answered, and what the last of them wrote stays.
  let settled = { revision: '', sinceMs: 0 };
  await until('a settled key', async () => {
    const { modRevision: revision = '' } = (await keyOf('10.5.34.0-24')) ?? {};
    if (revision !== settled.revision) settled = { revision, sinceMs: Date.now() };
    return revision !== '' && Date.now() - settled.sinceMs > SETTLED_MS;
  });
  for (const { diary } of [first, second]) {
    assert.ok(!diary.entries.some((entry) => entry.startsWith('lost')), diary.entries.join('\n'));
  }
});

test('a restart, and a reservation made by hand, are no second machine', async () => {
  const ended = new AbortController();
  const one = connect();
  const lease = await one.acquireLease(config(), request('192.168.64.3', '10.5.34.0/24'), abort.signal);
  const before = new Diary();
  const keeping = one.keepLease(lease, 3600, before, ended.signal);
  const successor = await node(connect(), '192.168.64.3');
  ended.abort();
  await keeping;
  await etcd.put(`${SUBNETS}10.5.34.0-24`, value('192.168.64.3'));
  await until('the reservation', () => successor.diary.last?.reserved === true);
  assert.ok(![...before.entries, ...successor.diary.entries].some((entry) => entry.startsWith('shared')));
});

test('a prefix that is wiped is filled again by the nodes, each with its own subnet', async () => {
  const nodes: { lease: Lease; diary: Diary; table: Table }[] = [];
  for (const host of [1, 2, 3]) {
    const one = connect();
    const table = new Table();
    nodes.push({ ...(await node(one, `192.168.64.${host}`, `10.5.${host}.0/24`)), table });
    void one.watchLeases(config(), table, abort.signal);
  }
  const all = { '10.5.1.0/24': '192.168.64.1', '10.5.2.0/24': '192.168.64.2', '10.5.3.0/24': '192.168.64.3' };
  const complete = () =>
    nodes.every(({ table }) => JSON.stringify(table.object, Object.keys(all)) === JSON.stringify(all));
  await until('full tables', complete);
  for (const { table } of nodes) table.changes = 0;
  await etcd.delete(PREFIX, { prefix: true });
  await until('every key', async () => {
    const keys = await Promise.all([1, 2, 3].map((host) => etcd.get(`${SUBNETS}10.5.${host}.0-24`)));
    return keys.every((key, index) => key === value(`192.168.64.${index + 1}`));
  });
  await until('full tables again', () => complete() && nodes.every(({ table }) => table.changes > 0));
  for (const { diary } of nodes) assert.ok(!diary.entries.some((entry) => entry.startsWith('lost')));
});

test('an etcd that is restored from an old backup is followed from where it is then', async () => {
  const data = join(etcd.directory, 'data');
  const backup = join(etcd.directory, 'backup');
  const early = await node(connect(), '192.168.64.1', '10.5.1.0/24');
  await etcd.put(`${SUBNETS}10.5.9.0-24`, value('192.168.64.9'));
  await etcd.stop();
  await cp(data, backup, { recursive: true });
  await etcd.restart();
  const table = new Table();
  void connect().watchLeases(config(), table, abort.signal);
  const late = await node(connect(), '192.168.64.2', '10.5.2.0/24');
  // Much happens after the backup, so that its revision lies far behind.
  for (let count = 0; count < 50; count++) await etcd.put(`${SUBNETS}10.5.7.0-24`, value('192.168.64.7'));
  await etcd.delete(`${SUBNETS}10.5.9.0-24`);
  await etcd.put(`${SUBNETS}10.5.3.0-24`, value('192.168.64.8'));
  const rows = (...expected: string[]) => expected.sort().join() === [...table.rows.keys()].sort().join();
  await until('the table', () => rows('10.5.1.0/24', '10.5.2.0/24', '10.5.3.0/24', '10.5.7.0/24'));
  await etcd.stop();
  await rm(data, { recursive: true });
  await cp(backup, data, { recursive: true });
  await etcd.restart();
  // What came after the backup is gone, but for the node that lives and takes its subnet back.
  await until('the table of the backup', () => rows('10.5.1.0/24', '10.5.2.0/24', '10.5.9.0/24'));
  await untilKey('10.5.1.0-24', '192.168.64.1');
  await untilKey('10.5.2.0-24', '192.168.64.2');
  await etcd.put(`${SUBNETS}10.5.4.0-24`, value('192.168.64.4'));
  await until('what comes after it', () => rows('10.5.1.0/24', '10.5.2.0/24', '10.5.4.0/24', '10.5.9.0/24'));
  const told = [...early.diary.entries, ...late.diary.entries].filter((entry) => /^(lost|shared)/.test(entry));
  assert.deepEqual(told, []);
});

test('the configuration is followed: changed, broken, deleted and put back', async () => {
  const told: string[] = [];
  const text = JSON.stringify({ Network: '10.5.0.0/16' });
  await etcd.put(`${PREFIX}/config`, text);
  void connect().watchNetworkConfig((now) => {
    told.push(now instanceof NetworkConfigError ? now.message : formatNetworkConfig(now));
  }, abort.signal);
  const next = async (what: string, pattern: RegExp, change: () => Promise<unknown>) => {
    const from = told.length;
    await change();
    await until(what, () => told.slice(from).some((line) => pattern.test(line)));
  };
  await until('the first', () => told.length === 1);
  await next('a change', /"Network":"10\.6\.0\.0\/16"/, () =>
    etcd.put(`${PREFIX}/config`, '{"Network":"10.6.0.0/16"}'),
  );
  await next('nonsense', /not JSON/, () => etcd.put(`${PREFIX}/config`, '{'));
  await next('its absence', /is absent/, () => etcd.delete(`${PREFIX}/config`));
  await next('its return', /"Network":"10\.5\.0\.0\/16"/, () => etcd.put(`${PREFIX}/config`, text));
});

test('a watch from a revision that the store has not reached ends with an error that says so', async () => {
  const { header } = (await etcd.call('/v3/kv/range', { key: 'AA==' })) as { header: { revision: string } };
  const targets = etcdTargets({ endpoints: etcd.endpoints, prefix: PREFIX });
  const connection = new EtcdConnection({ targets, timings: DEFAULT_TIMINGS });
  try {
    const afterRevision = (BigInt(header.revision) + 1000n).toString();
    const options = { key: Buffer.from(SUBNETS), afterRevision, events: () => undefined };
    await assert.rejects(watch(connection, options, abort.signal), /the store went back from revision/);
  } finally {
    connection.close();
  }
});
