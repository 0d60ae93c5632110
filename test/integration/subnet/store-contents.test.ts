/** What may stand in etcd beside leases, and an etcd that is full; with a real etcd. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { EtcdServer } from '../../../src/lab/etcd-server.js';
import { silentLogger } from '../../../src/log.js';
import { EtcdConnection } from '../../../src/subnet/etcd/connection.js';
import { DEFAULT_TIMINGS, etcdTargets } from '../../../src/subnet/etcd/options.js';
import { watch } from '../../../src/subnet/etcd/watch-stream.js';
import type { SubnetManager } from '../../../src/subnet/subnet-manager.js';
import { fill, makeRoom, revisionOf, SMALL_QUOTA } from '../../harness/full-etcd.js';
import {
  config,
  Diary,
  manager,
  PREFIX,
  request,
  SUBNETS,
  subnetText,
  Table,
  until,
  value,
  type TestManagerOptions,
} from './store.js';

let abort: AbortController;
const managers: SubnetManager[] = [];
const lines: string[] = [];
const logger = { ...silentLogger, warn: (line: string) => void lines.push(line) };
let skipped = 0;
const observer = { request() {}, watchRestarted() {}, skippedKeys: (count: number) => void (skipped = count) };

beforeEach(() => {
  abort = new AbortController();
  lines.length = 0;
});
afterEach(() => {
  abort.abort();
  for (const one of managers.splice(0)) one.close();
});

function connect(etcd: EtcdServer, options: TestManagerOptions = {}): SubnetManager {
  const made = manager(etcd.endpoints, { logger, observer, ...options });
  managers.push(made);
  return made;
}

function base64(bytes: string | Buffer): string {
  return Buffer.from(bytes).toString('base64');
}

async function putBytes(etcd: EtcdServer, name: string | Buffer, content: string | Buffer): Promise<void> {
  const key = Buffer.concat([Buffer.from(SUBNETS), Buffer.from(name)]);
  await etcd.call('/v3/kv/put', { key: base64(key), value: base64(content) });
}

describe('an etcd with all kinds of things in the place of leases', () => {
  /** What etcd takes as one request, less a little. */
  const MEGABYTES = Buffer.alloc(1_400_000, 'x');
  /** Together more than an answer may hold. */
  const LARGE_VALUES = 14;
  let etcd: EtcdServer;

  before(async () => {
    etcd = await EtcdServer.start();
  });
  after(() => etcd.dispose());

  test('is followed and listed: the leases count, the rest is skipped, and the log stays short', async () => {
    const publicIp = '192.168.64.1';
    const garbage: (readonly [name: string | Buffer, value: string | Buffer])[] = [
      ['', 'the folder itself'],
      ['10.5.9.0-24/', value(publicIp)],
      ['10.5.9.0-24/deeper', value(publicIp)],
      ['10.5.9.1-24', value(publicIp)],
      ['10.5.9.0-33', value(publicIp)],
      [Buffer.from([0xff, 0x00, 0xfe, 0x0a]), value(publicIp)],
      [Buffer.from([0xff, 0x00, 0xfd, 0x0a]), value(publicIp)],
      ['n'.repeat(1_000_000), value(publicIp)],
      ['10.5.10.0-24', ''],
      ['10.5.11.0-24', Buffer.from([0x80, 0x81, 0x00, 0xff])],
      ['10.5.12.0-24', 'null'],
      ['10.5.13.0-24', '[1,2,3]'],
      ['10.5.14.0-24', '{"PublicIP":7}'],
      ['10.5.15.0-24', '{"PublicIP":{"PublicIP":"192.168.64.1"}}'],
      ['10.5.16.0-24', '{"PublicIP":"192.168.64.1","BackendType":[]}'],
      ['10.5.17.0-24', value(publicIp).slice(0, -1)],
      ['10.5.18.0-24', '['.repeat(100_000)],
      ['10.5.19.0-24', MEGABYTES],
    ];
    const table = new Table();
    await etcd.put(`${SUBNETS}10.5.19.0-24`, value(publicIp));
    await etcd.put(`${SUBNETS}10.5.1.0-24`, value(publicIp));
    void connect(etcd).watchLeases(config(), table, abort.signal);
    await until('two leases', () => table.rows.size === 2);
    // One of them had been a lease.
    for (const [name, content] of garbage) await putBytes(etcd, name, content);
    // And one program gone wrong.
    for (let index = 0; index < 100; index++) await etcd.put(`${SUBNETS}10.5.20.0-24`, `{"PublicIP":"${index}"}`);
    await etcd.put(`${SUBNETS}10.5.2.0-24`, value('192.168.64.2'));
    await until('the last lease', () => table.rows.has('10.5.2.0/24'));
    const expected = { '10.5.1.0/24': publicIp, '10.5.2.0/24': '192.168.64.2' };
    assert.deepEqual(table.object, expected);
    assert.equal(skipped, garbage.length + 1);
    assert.ok(lines.length <= 33, `${lines.length} lines`);
    assert.ok(
      lines.every((line) => line.length < 500),
      lines.join('\n'),
    );

    const listed = new Table();
    void connect(etcd).watchLeases(config(), listed, abort.signal);
    await until('the same leases', () => listed.rows.size === 2);
    assert.deepEqual(listed.object, expected);
    assert.equal(skipped, garbage.length + 1);
    assert.equal(
      subnetText(await connect(etcd).acquireLease(config(), request(publicIp), abort.signal)),
      '10.5.1.0/24',
    );
    await etcd.delete(SUBNETS, { prefix: true });
    await until('nothing', () => table.rows.size === 0 && skipped === 0);
  });

  test('is listed and caught up with where that is more than one answer holds', async () => {
    await etcd.put(`${SUBNETS}10.5.1.0-24`, value('192.168.64.1'));
    const before = await revisionOf(etcd);
    for (let index = 0; index < LARGE_VALUES; index++) await putBytes(etcd, `10.5.${2 + index}.0-24`, MEGABYTES);
    await etcd.put(`${SUBNETS}10.5.99.0-24`, value('192.168.64.99'));
    const table = new Table();
    void connect(etcd).watchLeases(config(), table, abort.signal);
    await until('the leases', () => table.rows.size === 2);
    assert.equal(skipped, LARGE_VALUES);

    const connection = new EtcdConnection({
      targets: etcdTargets({ endpoints: etcd.endpoints, prefix: PREFIX }),
      timings: DEFAULT_TIMINGS,
    });
    try {
      let seen = 0;
      const range = { key: Buffer.from(SUBNETS), rangeEnd: Buffer.from(SUBNETS.replace(/\/$/, '0')) };
      const options = {
        ...range,
        afterRevision: before,
        events: (events: readonly unknown[]) => (seen += events.length),
      };
      const watching = watch(connection, options, abort.signal);
      await Promise.race([watching, until('all changes', () => seen === LARGE_VALUES + 1)]);
      assert.equal(seen, LARGE_VALUES + 1);
    } finally {
      connection.close();
    }
  });
});

describe('an etcd that has grown to its quota', () => {
  let etcd: EtcdServer;

  before(async () => {
    etcd = await EtcdServer.start({ extraArguments: SMALL_QUOTA });
  });
  after(() => etcd.dispose());

  test('keeps leases alive, is told of in one line, and is written to again when there is room', async () => {
    const ours = connect(etcd, { ttlSeconds: 2 });
    const lease = await ours.acquireLease(config(), request('192.168.64.1', '10.5.1.0/24'), abort.signal);
    const diary = new Diary();
    void ours.keepLease(lease, 60, diary, abort.signal);
    await fill(etcd);
    const before = diary.entries.length;
    await until('four renewals', () => diary.entries.length >= before + 4);
    assert.deepEqual(new Set(diary.entries), new Set(['renewed']));

    // A node that has none is told why.
    const full = /database is full.*"etcdctl compact", "etcdctl defrag" and "etcdctl alarm disarm"$/;
    const other = connect(etcd);
    await assert.rejects(other.acquireLease(config(), request('192.168.64.2'), abort.signal), full);

    // One that starts again goes on with the one it has.
    const again = await connect(etcd).acquireLease(config(), request('192.168.64.1'), abort.signal);
    assert.equal(subnetText(again), '10.5.1.0/24');
    assert.ok((again.expiresAtMs ?? 0) > Date.now());
    assert.match(lines.join('\n'), /10\.5\.1\.0\/24 is held by this node already: going on with it as it is; etcd at/);

    // One whose key is deleted says so, and has it back when there is room.
    await etcd.delete(`${SUBNETS}10.5.1.0-24`);
    await until('trouble', () => diary.entries.some((entry) => /^missing: .*database is full/.test(entry)));
    await makeRoom(etcd);
    await until('the key', async () => (await etcd.get(`${SUBNETS}10.5.1.0-24`)) === value('192.168.64.1'));
    assert.ok(await other.acquireLease(config(), request('192.168.64.2'), abort.signal));
  });
});
