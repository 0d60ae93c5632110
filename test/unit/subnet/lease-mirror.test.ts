import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { IEvent } from 'etcd3';
import fc from 'fast-check';
import { silentLogger } from '../../../src/log.js';
import { formatIpv4, formatPrefix } from '../../../src/packet/address.js';
import { LeaseMirror } from '../../../src/subnet/etcd/lease-mirror.js';
import { entryOf, storedEntry, type StoredEntry } from '../../../src/subnet/etcd/stored-entry.js';

const PREFIX = '/p/subnets/';

function mirror(): LeaseMirror {
  return new LeaseMirror({ folder: PREFIX, backendType: 'udp', logger: silentLogger });
}

function event(name: string, value: string | undefined, revision: number): IEvent {
  const kv = {
    key: Buffer.from(PREFIX + name),
    value: Buffer.from(value ?? ''),
    create_revision: '1',
    mod_revision: String(revision),
    version: '1',
    lease: '7',
  };
  return { type: value === undefined ? 'Delete' : 'Put', kv, prev_kv: kv };
}

const NAMES = [
  '10.5.1.0-24',
  '10.5.1.0-24&fc00::-64',
  '10.5.1.0-24&fc00:0:0:1::-64',
  '10.5.1.0-25',
  '10.5.2.0-24',
  'rubbish',
];
const VALUES = [
  '{"PublicIP":"192.168.64.1","PublicIPv6":null}',
  '{"PublicIP":"192.168.64.2","PublicIPv6":null}',
  '{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"udp"}',
  '{"PublicIP":"192.168.64.4","PublicIPv6":null,"BackendType":"vxlan"}',
  'rubbish',
  undefined,
];

test('following changes, in batches of any size, comes to the same table as listing anew', () => {
  const writes = fc.array(fc.tuple(fc.constantFrom(...NAMES), fc.constantFrom(...VALUES)), { maxLength: 40 });
  fc.assert(
    fc.property(writes, fc.integer({ min: 1, max: 7 }), (sequence, batch) => {
      const following = mirror();
      const table = new Map<string, string>();
      const entries = new Map<string, StoredEntry>();
      following.reset([]);
      for (let start = 0; start < sequence.length; start += batch) {
        const events = sequence
          .slice(start, start + batch)
          .map(([name, value], index) => event(name, value, start + index + 2));
        for (const { type, kv } of events) {
          const entry = entryOf(kv, PREFIX.length);
          if (type === 'Delete') entries.delete(entry.name);
          else entries.set(entry.name, entry);
        }
        const { changed, removed } = following.apply(events);
        for (const lease of changed) table.set(formatPrefix(lease.subnet), formatIpv4(lease.publicIp));
        for (const subnet of removed) table.delete(formatPrefix(subnet));

        const listing = [...entries.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
        const listed = mirror().reset(listing);
        const rows = listed.map((lease) => [formatPrefix(lease.subnet), formatIpv4(lease.publicIp)]);
        assert.deepEqual(Object.fromEntries(table), Object.fromEntries(rows));
      }
    }),
  );
});

/** A mirror, the names that it was heard to skip, and what it counts of them. */
function listening() {
  const heard: string[] = [];
  const counts: number[] = [];
  const warn = (line: string): void => void heard.push(/subnets\/([^"]*)"/.exec(line)?.[1] ?? line);
  const observer = { request() {}, watchRestarted() {}, skippedKeys: (count: number) => void counts.push(count) };
  const one = new LeaseMirror({ folder: PREFIX, backendType: 'udp', logger: { ...silentLogger, warn }, observer });
  return { one, heard, skipped: () => counts.at(-1) };
}

test('what is no lease is told once, and again only when it is something else', () => {
  const { one, heard, skipped } = listening();
  const bad = storedEntry({ name: 'rubbish', value: 'x', modRevision: '2', etcdLeaseId: '0' });
  one.reset([bad]);
  one.reset([bad]);
  one.apply([event('rubbish', 'y', 3)]);
  assert.deepEqual(heard, ['rubbish']);
  one.apply([event('10.5.1.0-24', VALUES[3], 4), event('10.5.1.0-24', VALUES[3], 5)]);
  one.apply([event('10.5.1.0-24', 'rubbish', 6)]);
  assert.deepEqual(heard.slice(1), ['10.5.1.0-24', '10.5.1.0-24']);
  assert.equal(skipped(), 2);
  one.apply([event('rubbish', undefined, 7)]);
  assert.equal(skipped(), 1);
  one.apply([event('rubbish', 'x', 8)]);
  assert.equal(heard.length, 4);
  one.reset([]);
  assert.equal(skipped(), 0);
});

test('of values that are too long, and too deep for the stack, only that is told', () => {
  const { one, heard, skipped } = listening();
  one.reset([
    storedEntry({ name: '10.5.1.0-24', value: '', omittedBytes: 1_000_000, modRevision: '2', etcdLeaseId: '0' }),
  ]);
  const deep = `{"PublicIP":"192.168.64.1","BackendData":${'['.repeat(1500)}${']'.repeat(1500)}}`;
  one.apply([event('10.5.2.0-24', deep, 3)]);
  one.apply([event('10.5.3.0-24', JSON.stringify({ PublicIP: 'x'.repeat(4000) }), 4)]);
  one.apply([event('10.5.4.0-24', JSON.stringify({ PublicIP: '192.0.2.1', BackendType: 'y'.repeat(3900) }), 5)]);
  assert.deepEqual(heard, ['10.5.1.0-24', '10.5.2.0-24', '10.5.3.0-24', '10.5.4.0-24']);
  assert.equal(skipped(), 4);
});

test('a subnet with thousands of keys is followed like any other, and held by the one written last', () => {
  const KEYS = 20_000;
  const one = mirror();
  const change = (index: number, value: string | undefined, revision: number): IEvent =>
    event(`10.5.1.0-24&fc00:0:0:${index.toString(16)}::-64`, value, revision);
  const owner = (of: string): string => `{"PublicIP":"${of}","PublicIPv6":null}`;
  const holder = ({ changed }: { changed: { publicIp: number }[] }): string[] =>
    changed.map(({ publicIp }) => formatIpv4(publicIp));

  const written = Array.from({ length: KEYS }, (_, index) => change(index, owner('192.0.2.1'), index + 2));
  assert.equal(one.reset(written.map(({ kv }) => entryOf(kv, PREFIX.length))).length, 1);
  // Each is written once more, in another order, and goes in a third.
  const again = Array.from({ length: KEYS }, (_, index) => (index * 7919) % KEYS);
  assert.deepEqual(holder(one.apply(again.map((index, at) => change(index, owner('192.0.2.2'), KEYS + at + 2)))), [
    '192.0.2.2',
  ]);
  const [first, last] = [again[0], again[KEYS - 1]];
  assert.deepEqual(holder(one.apply([change(first, owner('192.0.2.3'), 3 * KEYS)])), ['192.0.2.3']);
  assert.deepEqual(holder(one.apply([change(first, undefined, 3 * KEYS + 1)])), ['192.0.2.2']);
  const rest = again.filter((index) => index !== first && index !== last).reverse();
  assert.deepEqual(one.apply(rest.map((index) => change(index, undefined, 4 * KEYS))).removed, []);
  assert.equal(one.apply([change(last, undefined, 5 * KEYS)]).removed.length, 1);
});
