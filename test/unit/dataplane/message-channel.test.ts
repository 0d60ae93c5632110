import assert from 'node:assert/strict';
import { mkdtempSync, openSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { MessageChannel } from '../../../src/dataplane/message-channel.js';

function targetOf(fd: number): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return undefined;
  }
}

test('a descriptor that cannot be watched is closed again', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'message-channel-'));
  t.after(() => rmSync(folder, { recursive: true }));
  // Of a file the kernel tells nothing: epoll_ctl(2), EPERM.
  const file = join(folder, 'file');
  const fd = openSync(file, 'w');
  assert.equal(targetOf(fd), file);
  assert.throws(() => new MessageChannel(fd), { code: 'HOST', message: /^cannot watch a socket: / });
  assert.notEqual(targetOf(fd), file);
});
