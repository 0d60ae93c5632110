import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

/** Makes a Node of today say that it is an old one, before anything of ours is loaded. */
const OLD = "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '18.19.0' } });";

for (const program of ['flanneld', 'flannelctl']) {
  test(`${program} says in one line that Node is too old, and which Node that is`, () => {
    const launcher = fileURLToPath(new URL(`../../../bin/${program}`, import.meta.url));
    const preload = `data:text/javascript,${encodeURIComponent(OLD)}`;
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', preload, launcher, '--version'], {
      encoding: 'utf8',
    });
    assert.equal(status, 1);
    assert.equal(stdout, '');
    assert.equal(stderr, `${program}: Node 18.19.0 (${process.execPath}) is too old: install Node 20 or newer\n`);
  });
}
