import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { FlannelError } from '../../../src/errors.js';
import { makeOwnFolder } from '../../fuzz/own-folder.js';

const scratch = mkdtempSync(join(tmpdir(), 'flannelette-own-folder-'));
after(() => rmSync(scratch, { recursive: true, force: true }));

test('the folder of fuzzing is made, with those above it', () => {
  const folder = join(scratch, 'dist', 'fuzz');
  makeOwnFolder(folder);
  makeOwnFolder(folder);
  assert.ok(statSync(folder).isDirectory());
});

test('a folder that cannot be written to is told in one line, with what to do', () => {
  const file = join(scratch, 'file');
  writeFileSync(file, '');
  assert.throws(
    () => makeOwnFolder(join(file, 'fuzz')),
    (error) =>
      error instanceof FlannelError &&
      /file\/fuzz cannot be written to \(not a directory\): run this as the checkout's owner \(user \d+\), or in/.test(
        error.message,
      ) &&
      !error.message.includes('\n'),
  );
});
