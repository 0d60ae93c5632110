import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EtcdServer } from '../../../src/lab/etcd-server.js';
import { EtcdConnection } from '../../../src/subnet/etcd/connection.js';
import { DEFAULT_TIMINGS, etcdTargets } from '../../../src/subnet/etcd/options.js';
import { watch } from '../../../src/subnet/etcd/watch-stream.js';
import type { SubnetManager } from '../../../src/subnet/subnet-manager.js';
import { Proxy } from './proxy.js';
import { config, Diary, FAST, FAST_PINGS, manager, PREFIX, request, SUBNETS, Table, until, value } from './store.js';

/** Pings as often as a test can wait for. */

let etcd: EtcdServer;
let proxy: Proxy;
let one: SubnetManager;
let restarts = 0;
let abort: AbortController;
const unhandled: unknown[] = [];
const remember = (reason: unknown) => void unhandled.push(reason);

before(async () => {
  process.on('unhandledRejection', remember);
  etcd = await EtcdServer.start(FAST_PINGS);
});
after(async () => {
  await etcd.dispose();
  process.off('unhandledRejection', remember);
});
beforeEach(async () => {
  await etcd.delete(PREFIX, { prefix: true });
  proxy = await Proxy.before(etcd.endpoints);
  abort = new AbortController();
  restarts = 0;
  const observer = { request() {}, skippedKeys() {}, watchRestarted: () => void restarts++ };
  one = manager([proxy.endpoint], { timings: FAST, observer });
});
afterEach(() => {
  abort.abort();
  one.close();
  proxy.close();
  assert.deepEqual(unhandled, []);
});

async function compact(): Promise<void> {
  const { header } = (await etcd.call('/v3/kv/range', { key: 'AA==' })) as { header: { revision: string } };
  await etcd.call('/v3/kv/compaction', { revision: header.revision, physical: true });
}

async function watched(): Promise<Table> {
  await etcd.put(`${SUBNETS}10.5.1.0-24`, value('192.168.64.1'));
  const table = new Table();
  void one.watchLeases(config(), table, abort.signal);
  await until('the first lease', () => table.rows.size === 1);
  await etcd.put(`${SUBNETS}10.5.2.0-24`, value('192.168.64.2'));
  await until('the second lease', () => table.rows.size === 2);
  return table;
}

test('a lease that was removed while the connection was cut is gone from the table, compaction or not', async () => {
  const table = await watched();
  proxy.cut();
  await etcd.delete(`${SUBNETS}10.5.1.0-24`);
  await etcd.put(`${SUBNETS}10.5.3.0-24`, value('192.168.64.3'));
  await compact();
  await sleep(500);
  assert.deepEqual(Object.keys(table.object), ['10.5.1.0/24', '10.5.2.0/24'], 'the table stays while etcd is away');
  proxy.mend();
  await until('the new table', () => table.rows.size === 2 && table.rows.has('10.5.3.0/24'));
  assert.deepEqual(table.object, { '10.5.2.0/24': '192.168.64.2', '10.5.3.0/24': '192.168.64.3' });
  await until('one restart', () => restarts === 1);
  await etcd.delete(`${SUBNETS}10.5.2.0-24`);
  await until('a change after it', () => table.rows.size === 1);
});

test('a connection on which nothing comes any more is noticed', async () => {
  const table = await watched();
  proxy.stick();
  await etcd.delete(`${SUBNETS}10.5.1.0-24`);
  await sleep(2_000);
  proxy.mend();
  await until('the removal', () => table.rows.size === 1);
  assert.ok(table.snapshots >= 2);
});

test('a server that accepts connections and says nothing is given up, and each connection to it with that', async () => {
  await etcd.put(`${SUBNETS}10.5.1.0-24`, value('192.168.64.1'));
  proxy.stick();
  const impatient = manager([proxy.endpoint], { timings: { ...FAST, requestTimeoutMs: 300, connectTimeoutMs: 200 } });
  try {
    const table = new Table();
    void impatient.watchLeases(config(), table, abort.signal);
    await until('several connections', () => proxy.accepted >= 6);
    // One, and three that may still come to something.
    await until('few open connections', () => proxy.open <= 4);
    proxy.mend();
    await until('the table', () => table.rows.size === 1);
  } finally {
    impatient.close();
  }
});

test('an etcd that stops, crashes or freezes, and comes back, is watched again', async () => {
  const table = await watched();
  await etcd.restart();
  await etcd.delete(`${SUBNETS}10.5.1.0-24`);
  await until('the removal after a stop', () => table.rows.size === 1);
  await etcd.kill();
  await etcd.restart();
  await etcd.put(`${SUBNETS}10.5.4.0-24`, value('192.168.64.4'));
  await until('the lease after a crash', () => table.rows.size === 2);
  etcd.pause();
  await sleep(2_000);
  etcd.resume();
  await etcd.put(`${SUBNETS}10.5.5.0-24`, value('192.168.64.5'));
  await until('the lease after a freeze', () => table.rows.size === 3);
});

test('a server that ends every connection at once is not called in a hot loop', async () => {
  proxy.cut();
  const diary = new Diary();
  const lease = { ...request('192.168.64.1'), subnet: { address: 0x0a050100, length: 24 }, reserved: false };
  void one.watchLeases(config(), new Table(), abort.signal);
  void one.keepLease({ ...lease, expiresAtMs: Date.now() + 86_400_000 }, 3600, diary, abort.signal);
  await sleep(4_000);
  // Both ask for one connection, which is tried with pauses from 100 ms to 750 ms.
  assert.ok(proxy.accepted > 2 && proxy.accepted < 20, `${proxy.accepted} connections in 4 s`);
});

test('a watch from a revision that was compacted ends with an error that says so', async () => {
  await watched();
  await compact();
  const targets = etcdTargets({ endpoints: etcd.endpoints, prefix: PREFIX });
  const connection = new EtcdConnection({ targets, timings: DEFAULT_TIMINGS });
  try {
    const options = { key: Buffer.from(SUBNETS), afterRevision: '1', events: () => undefined };
    await assert.rejects(watch(connection, options, abort.signal), /revision 1 was compacted/);
  } finally {
    connection.close();
  }
});

test('the own lease is kept through a gap, and what happened in it is known after it', async () => {
  const lease = await one.acquireLease(config(), request('192.168.64.1', '10.5.1.0/24'), abort.signal);
  const diary = new Diary();
  const keeping = one.keepLease(lease, 3600, diary, abort.signal);
  await sleep(200);
  proxy.cut();
  await etcd.delete(`${SUBNETS}10.5.1.0-24`);
  await sleep(300);
  proxy.mend();
  await until('taken back', async () => (await etcd.get(`${SUBNETS}10.5.1.0-24`)) === value('192.168.64.1'));
  // A cut before the answer would be a trouble of its own.
  await until('the answer', () => diary.entries.includes('renewed'));
  proxy.cut();
  await etcd.put(`${SUBNETS}10.5.1.0-24`, value('192.168.64.2'));
  await sleep(300);
  proxy.mend();
  await keeping;
  assert.deepEqual(diary.entries, ['renewed', 'lost: 10.5.1.0/24 belongs to 192.168.64.2 now']);
  assert.equal(await etcd.get(`${SUBNETS}10.5.1.0-24`), value('192.168.64.2'));
});

test('a renewal that fails is told in few words, and succeeds when etcd is back', async () => {
  const short = manager([proxy.endpoint], { timings: FAST, ttlSeconds: 4, renewRetryMs: 200 });
  try {
    const lease = await short.acquireLease(config(), request('192.168.64.1', '10.5.1.0/24'), abort.signal);
    const diary = new Diary();
    void short.keepLease(lease, 2, diary, abort.signal);
    await until('a renewal', () => diary.entries.length === 1);
    proxy.cut();
    await until('trouble', () => diary.entries.length === 2);
    await sleep(1_000);
    proxy.mend();
    await until('another renewal', () => diary.entries.at(-1) === 'renewed');
    const troubles = diary.entries.filter((entry) => entry.startsWith('trouble'));
    assert.ok(new Set(troubles).size < 4, troubles.join('\n'));
  } finally {
    short.close();
  }
});

test('the second endpoint is asked when the first is dead, stuck, or dies under a watch', async () => {
  const second = await Proxy.before(etcd.endpoints);
  const both = manager([proxy.endpoint, second.endpoint], { timings: FAST, random: () => 0 });
  try {
    await etcd.put(`${PREFIX}/config`, '{"Network":"10.5.0.0/16"}');
    await etcd.put(`${SUBNETS}10.5.1.0-24`, value('192.168.64.1'));
    const table = new Table();
    void both.watchLeases(config(), table, abort.signal);
    await until('the first lease', () => table.rows.size === 1);
    proxy.stick();
    await etcd.put(`${SUBNETS}10.5.2.0-24`, value('192.168.64.2'));
    await until('the second lease', () => table.rows.size === 2);
    assert.ok((await both.networkConfig(abort.signal)).enableIpv4);
    proxy.mend();
    second.cut();
    await etcd.put(`${SUBNETS}10.5.3.0-24`, value('192.168.64.3'));
    await until('the third lease', () => table.rows.size === 3);
    const deadFirst = manager(['http://127.0.0.1:1', proxy.endpoint], { timings: FAST });
    assert.ok((await deadFirst.networkConfig(abort.signal)).enableIpv4);
    deadFirst.close();
  } finally {
    both.close();
    second.close();
  }
});

test('the failures of all endpoints are told in the order of the configuration, whichever answered last', async () => {
  await etcd.put(`${PREFIX}/config`, '{"Network":"10.5.0.0/16"}');
  const dead = 'http://127.0.0.1:1';
  for (const endpoints of [
    [dead, proxy.endpoint],
    [proxy.endpoint, dead],
  ]) {
    const both = manager(endpoints, { timings: FAST });
    try {
      await both.networkConfig(abort.signal);
      proxy.cut();
      const [first, second] = endpoints;
      await assert.rejects(both.networkConfig(abort.signal), (error: Error) => {
        assert.match(error.message, new RegExp(`^etcd at ${first}: .+; ${second}: .+`));
        return true;
      });
      proxy.mend();
    } finally {
      both.close();
    }
  }
});

test('when it is told to stop, everything ends by itself, even while etcd does not answer', async () => {
  const lease = await one.acquireLease(config(), request('192.168.64.1'), abort.signal);
  const running = [
    one.watchLeases(config(), new Table(), abort.signal),
    one.keepLease(lease, 3600, new Diary(), abort.signal),
  ];
  await sleep(200);
  etcd.pause();
  running.push(assert.rejects(one.networkConfig(abort.signal)));
  await sleep(100);
  abort.abort();
  await Promise.all(running);
  etcd.resume();
});
