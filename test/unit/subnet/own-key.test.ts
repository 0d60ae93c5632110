import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OwnKey } from '../../../src/subnet/etcd/own-key.js';
import type { SeenKey } from '../../../src/subnet/etcd/stored-entry.js';

const ENTRY: SeenKey = {
  name: '10.5.5.0-24',
  value: '{"PublicIP":"192.0.2.7"}',
  modRevision: '11',
  etcdLeaseId: '1030',
};

test('a key is unchanged as long as it is as it was last seen', () => {
  const key = new OwnKey();
  assert.equal(key.isUnchanged(ENTRY), false);
  key.seen(ENTRY);
  assert.equal(key.isUnchanged({ ...ENTRY }), true);
  assert.equal(key.isUnchanged({ ...ENTRY, modRevision: '12' }), false);
  assert.equal(key.isUnchanged({ ...ENTRY, name: '10.5.6.0-24' }), false);
});

test('a key that another wrote at the same revision, after the store was restored again, has changed', () => {
  const key = new OwnKey();
  key.seen(ENTRY);
  assert.equal(key.isUnchanged({ ...ENTRY, etcdLeaseId: '1038' }), false);
});

test('a key that another machine keeps as well is never called unchanged', () => {
  const key = new OwnKey();
  key.seen(ENTRY);
  key.sharedWithAnother();
  assert.equal(key.isUnchanged(ENTRY), false);
  const other = { ...ENTRY, name: '10.5.6.0-24' };
  key.seen(other);
  assert.equal(key.isUnchanged(other), true);
});

test('a key is rewritten when its revision is later; an earlier one comes from a backup', () => {
  const key = new OwnKey();
  key.seen(ENTRY);
  assert.equal(key.wasRewritten(ENTRY), false);
  assert.equal(key.wasRewritten({ ...ENTRY, modRevision: '100' }), true);
  assert.equal(key.wasRewritten({ ...ENTRY, modRevision: '9' }), false);
});
