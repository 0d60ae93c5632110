import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { UsageError } from '../../../src/errors.js';
import { etcdTargets } from '../../../src/subnet/etcd/options.js';
import { passwordSource } from '../../../src/subnet/etcd/password.js';

const folder = mkdtempSync(join(tmpdir(), 'flannelette-password-'));
after(() => rmSync(folder, { recursive: true }));
const passwordFile = join(folder, 'password');
const options = { endpoints: ['http://127.0.0.1:2379'], prefix: '/net', username: 'node' };

test('a password is what it is, and nobody has one without asking', () => {
  assert.equal(passwordSource({ ...options, password: ' x ' })?.(), ' x ');
  assert.equal(passwordSource(options), undefined);
});

test('a file is read for every login, less one line break; while it is away, what it held last counts', () => {
  writeFileSync(passwordFile, ' first \n');
  const source = passwordSource({ ...options, passwordFile }) ?? assert.fail();
  assert.equal(source(), ' first ');
  writeFileSync(passwordFile, 'second\r\n');
  assert.equal(source(), 'second');
  rmSync(passwordFile);
  assert.equal(source(), 'second');
  writeFileSync(passwordFile, '');
  assert.equal(source(), 'second');
});

test('a file that cannot be the password is refused by its name, without what it holds', () => {
  for (const content of ['', '\n', 'secret\nsecret\n', 'secret'.repeat(1000)]) {
    writeFileSync(passwordFile, content);
    assert.throws(
      () => passwordSource({ ...options, passwordFile }),
      (error) =>
        error instanceof UsageError && error.message.includes(passwordFile) && !error.message.includes('secret'),
    );
  }
  assert.throws(() => passwordSource({ ...options, passwordFile: join(folder, 'none') }), /there is no such file/);
  assert.throws(() => passwordSource({ ...options, username: undefined, passwordFile }), /--etcd-username/);
});

test('what may be a password in an endpoint is not shown', () => {
  for (const endpoint of ['http://user:secret@h:2379', 'user:secret@h:2379', 'http://user:se//cret@h']) {
    assert.throws(
      () => etcdTargets({ endpoints: [endpoint], prefix: '/coreos.com/network' }),
      (error) => error instanceof UsageError && /@h/.test(error.message) && !/se\S*cret/.test(error.message),
    );
  }
});
