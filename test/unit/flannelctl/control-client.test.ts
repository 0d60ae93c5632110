import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { FlannelError } from '../../../src/errors.js';
import { ControlClient } from '../../../src/flannelctl/control-client.js';
import { ControlServer } from '../../../src/observe/control-server.js';
import type { StatusAnswer } from '../../../src/observe/control-protocol.js';
import { daemonAnswering, temporaryFolder, type Answer } from '../../support/flannelctl.js';

const VERSION_ANSWER = { protocol: 1, version: '0.1.0', pid: 42 };

async function client(t: TestContext, answers: Record<string, Answer>, timeoutMs?: number): Promise<ControlClient> {
  return new ControlClient(await daemonAnswering(t, answers), { timeoutMs });
}

function control(message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof FlannelError);
    assert.equal(error.code, 'CONTROL');
    assert.match(error.message, message);
    assert.doesNotMatch(error.message, /\n/);
    return true;
  };
}

test('an answer of the daemon comes back as it was sent', async (t) => {
  const daemon = await client(t, { '/v1/version': { value: VERSION_ANSWER }, '/v1/leases': { value: [] } });
  assert.deepEqual(await daemon.version(), VERSION_ANSWER);
  assert.deepEqual(await daemon.leases(), []);
});

test('a socket that is not there is named, with what to do', async (t) => {
  const path = join(await temporaryFolder(t), 'absent.sock');
  await assert.rejects(
    new ControlClient(path).status(),
    control(new RegExp(`no flanneld at ${path} \\(no such socket\\).*--socket PATH`)),
  );
});

test('a socket file that nobody listens on is told from one that is not there', async (t) => {
  const path = join(await temporaryFolder(t), 'file.sock');
  await writeFile(path, '');
  await assert.rejects(new ControlClient(path).status(), control(/nothing listens there/));
});

test('a daemon that does not answer in time is given up', async (t) => {
  const daemon = await client(t, { '/v1/status': 'silence' }, 50);
  await assert.rejects(daemon.status(), control(/did not answer within 0\.05 s/));
});

test('a daemon that hangs up is one line', async (t) => {
  const daemon = await client(t, { '/v1/status': 'hang up' });
  await assert.rejects(daemon.status(), control(/hung up/));
});

test('something that is not HTTP is one line', async (t) => {
  const path = join(await temporaryFolder(t), 'other.sock');
  const server = createServer((socket) => socket.on('error', () => undefined).end('220 mail.example ESMTP\r\n'));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.after(() => server.close());
  await assert.rejects(new ControlClient(path).status(), control(/other\.sock/));
});

test('an answer that is not JSON, or not of the shape asked for, is refused', async (t) => {
  const daemon = await client(t, {
    '/v1/status': { text: '<html>' },
    '/v1/leases': { text: '{}' },
    '/v1/version': { text: 'null' },
  });
  await assert.rejects(daemon.status(), control(/no status that can be read/));
  await assert.rejects(daemon.leases(), control(/no leases that can be read/));
  await assert.rejects(daemon.version(), control(/no version that can be read/));
});

test('a daemon of another protocol version is told apart from a broken one', async (t) => {
  const newer = await client(t, { '/v1/version': { value: { ...VERSION_ANSWER, protocol: 2 } } });
  await assert.rejects(newer.version(), control(/another release \(it speaks version 2/));
  const older = await client(t, {});
  await assert.rejects(older.status(), control(/another release \(it has no \/v1\/status/));
});

test("the daemon's own error is passed on", async (t) => {
  const daemon = await client(t, { '/v1/leases': { status: 503, value: { error: 'the table is not read yet' } } });
  await assert.rejects(daemon.leases(), control(/answered 503: the table is not read yet/));
});

test("the daemon's real control server is understood", async (t) => {
  const path = join(await temporaryFolder(t), 'flanneld.sock');
  const status: StatusAnswer = {
    version: '0.1.0',
    pid: process.pid,
    startedAt: new Date(0).toISOString(),
    state: 'lease',
    subnetFile: '/run/flannel/subnet.env',
    store: { endpoints: [], prefix: '/p', healthy: true, watchRestarts: 0, skippedEntries: 0 },
  };
  const server = await ControlServer.listen(path, {
    version: '0.1.0',
    status: () => status,
    leaseAnswers: () => [],
    explain: () => undefined,
  });
  t.after(() => server.close());
  const daemon = new ControlClient(path);
  assert.deepEqual(await daemon.version(), { protocol: 1, version: '0.1.0', pid: process.pid });
  assert.deepEqual(await daemon.status(), status);
  assert.deepEqual(await daemon.leases(), []);
});
