import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';

import { FlannelError } from '../../../src/errors.js';
import type { LeaseAnswer, StatusAnswer } from '../../../src/observe/control-protocol.js';
import { formatIpv4 } from '../../../src/packet/address.js';
import { ControlServer, probeControlSocket, type ControlSource } from '../../../src/observe/control-server.js';

const status: StatusAnswer = {
  version: '1.2.3',
  pid: process.pid,
  startedAt: '2026-01-02T03:04:05.678Z',
  state: 'configuration',
  reason: 'etcd cannot be reached',
  subnetFile: '/run/flannel/subnet.env',
  store: { endpoints: [], prefix: '/p', healthy: false, watchRestarts: 0, skippedEntries: 0 },
};
const lease: LeaseAnswer = {
  subnet: '10.5.1.0/24',
  publicIP: '192.0.2.1',
  reserved: true,
  expires: null,
  backendType: 'udp',
  own: true,
};
let dataplaneRuns = true;
const source: ControlSource = {
  version: '1.2.3',
  status: () => status,
  leaseAnswers: () => [lease],
  explain: ({ source: from, destination, protocol, ttl, sender }) =>
    dataplaneRuns
      ? {
          direction: sender === undefined ? 'encap' : 'decap',
          network: '10.5.0.0/16',
          subnet: '10.5.1.0/24',
          sourceCheck: 'strict',
          source: { address: formatIpv4(from), entry: 'own-subnet' },
          destination: { address: formatIpv4(destination), entry: 'no-lease' },
          here: { verdict: 'dropped', reason: `${protocol}/${ttl}` },
        }
      : undefined,
};

let folder: string;
let path: string;
const open: ControlServer[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flannelette-control-'));
  path = join(folder, 'sub', 'flanneld.sock');
});
afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
  rmSync(folder, { recursive: true, force: true });
});

async function listen(at = path, answers = source): Promise<ControlServer> {
  const server = await ControlServer.listen(at, answers);
  open.push(server);
  return server;
}

interface Reply {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}

function ask(requested: string, method = 'GET', body?: string, at = path): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const asking = request({ socketPath: at, path: requested, method }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (text += chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }));
    });
    asking.on('error', reject);
    asking.end(body);
  });
}

/** Leaves a socket file behind as a killed daemon does. */
function leaveStaleSocket(at: string): Promise<void> {
  const script = `require('node:net').createServer().listen(${JSON.stringify(at)}, () => process.kill(process.pid, 'SIGKILL'))`;
  return new Promise((resolve) => {
    spawn(process.execPath, ['-e', script]).on('exit', () => resolve());
  });
}

async function refusal(at = path): Promise<string> {
  try {
    await listen(at);
  } catch (error) {
    assert.ok(error instanceof FlannelError && error.code === 'CONTROL', String(error));
    assert.ok(!error.message.includes('\n'));
    return error.message;
  }
  assert.fail('it listened');
}

describe('the control socket', () => {
  test('takes the place of a link that leads nowhere, and not of a file that one leads to', async () => {
    mkdirSync(join(folder, 'sub'));
    symlinkSync(join(folder, 'nowhere'), path);
    const server = await listen();
    assert.equal(lstatSync(path).isSocket(), true);
    await server.close();
    writeFileSync(join(folder, 'notes'), 'precious');
    symlinkSync(join(folder, 'notes'), path);
    assert.match(await refusal(), /a file of another kind/);
    assert.equal(readFileSync(path, 'utf8'), 'precious');
  });

  test('answers version, status and leases', async () => {
    await listen();
    assert.deepEqual(JSON.parse((await ask('/v1/version')).body), { protocol: 1, version: '1.2.3', pid: process.pid });
    assert.deepEqual(JSON.parse((await ask('/v1/status')).body), status);
    const leases = await ask('/v1/leases?x=y');
    assert.equal(leases.headers['content-type'], 'application/json');
    assert.deepEqual(JSON.parse(leases.body), [lease]);
  });

  test('answers others while it tells of many leases', async () => {
    const most = 1_000_000;
    let told = 0;
    let version: Promise<Reply> | undefined;
    let answered = false;
    // They go on until the other question is answered.
    function* leaseAnswers(): Generator<LeaseAnswer> {
      while (!answered && told < most) {
        told++;
        version ??= ask('/v1/version').finally(() => (answered = true));
        yield lease;
      }
    }
    await listen(path, { ...source, leaseAnswers });
    const leases = JSON.parse((await ask('/v1/leases')).body) as LeaseAnswer[];
    assert.equal((await version)?.status, 200);
    assert.ok(told < most);
    assert.equal(leases.length, told);
    assert.deepEqual(leases.at(-1), lease);
    const head = await ask('/v1/leases', 'HEAD');
    assert.deepEqual([head.status, head.body], [200, '']);
  });

  test('explains packets, and says what is wrong with a question', async () => {
    await listen();
    const explain = async (query: string): Promise<{ status: number; answer: Record<string, unknown> }> => {
      const { status: code, body } = await ask(`/v1/explain${query}`);
      return { status: code, answer: JSON.parse(body) as Record<string, unknown> };
    };
    const plain = await explain('?source=10.5.1.2&destination=10.5.2.3');
    assert.deepEqual(
      [plain.status, plain.answer.direction, plain.answer.here],
      [200, 'encap', { verdict: 'dropped', reason: '1/64' }],
    );
    const arriving = await explain('?source=10.5.1.2&destination=10.5.2.3&protocol=17&ttl=3&sender=192.0.2.1');
    assert.deepEqual(
      [arriving.answer.direction, arriving.answer.here],
      ['decap', { verdict: 'dropped', reason: '17/3' }],
    );
    for (const query of [
      '',
      '?source=10.5.1.2',
      '?source=10.5.1.2&destination=10.5.2.3&ttl=300',
      '?source=a&destination=b',
    ]) {
      assert.equal((await explain(query)).status, 400, query);
    }
    dataplaneRuns = false;
    assert.equal((await explain('?source=10.5.1.2&destination=10.5.2.3')).status, 503);
    dataplaneRuns = true;
  });

  test('is for its own user only', async () => {
    await listen();
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });

  test('says that root may, where another user may not listen', { skip: process.getuid?.() !== 0 }, async () => {
    chmodSync(folder, 0o755);
    mkdirSync(dirname(path), { mode: 0o755 });
    process.seteuid?.(65534);
    try {
      assert.equal(await refusal(), `cannot listen on control socket ${path}: not allowed: run as root`);
    } finally {
      process.seteuid?.(0);
    }
  });

  test('refuses what it does not know, in JSON', async () => {
    await listen();
    for (const [requested, method, body, expected] of [
      ['/v2/status', 'GET', undefined, 404],
      ['/', 'GET', undefined, 404],
      ['/v1/status', 'DELETE', undefined, 405],
      ['/v1/status', 'POST', 'x=y', 413],
    ] as const) {
      const reply = await ask(requested, method, body);
      assert.equal(reply.status, expected);
      assert.equal(typeof (JSON.parse(reply.body) as { error: unknown }).error, 'string');
    }
  });

  test('says 500 and goes on when an answer cannot be made', async () => {
    const broken = await ControlServer.listen(path, {
      ...source,
      status: () => {
        throw new Error('secret detail');
      },
    });
    open.push(broken);
    const reply = await ask('/v1/status');
    assert.equal(reply.status, 500);
    assert.ok(!reply.body.includes('secret'));
    assert.equal((await ask('/v1/version')).status, 200);
  });

  test('is gone after a close, and leaves nothing beside it', async () => {
    await (await listen()).close();
    open.length = 0;
    assert.deepEqual(readdirSync(join(folder, 'sub')), []);
  });

  test('replaces that of a dead daemon', async () => {
    path = join(folder, 'flanneld.sock');
    await leaveStaleSocket(path);
    assert.ok(existsSync(path));
    assert.deepEqual(await probeControlSocket(path), { state: 'stale' });
    await listen();
    assert.equal((await ask('/v1/version')).status, 200);
    assert.deepEqual(readdirSync(folder), ['flanneld.sock']);
  });

  test('of a living daemon is left alone, and its pid is named', async () => {
    await listen();
    assert.match(await refusal(), new RegExp(`pid ${process.pid}\\b.*--control-socket`));
    assert.equal((await ask('/v1/version')).status, 200);
  });

  test('of one that never answers counts as living', async () => {
    path = join(folder, 'mute.sock');
    const mute = createServer().listen(path);
    try {
      assert.match(await refusal(), /belongs to another process/);
    } finally {
      mute.close();
    }
  });

  test('is not put over a file of another kind', async () => {
    path = join(folder, 'file');
    writeFileSync(path, 'precious');
    assert.match(await refusal(), /another kind/);
    assert.ok(existsSync(path));
  });

  test('in a place that cannot be is an error of one line', async () => {
    writeFileSync(join(folder, 'file'), '');
    assert.match(await refusal(join(folder, 'file', 'x.sock')), /cannot listen on control socket/);
    assert.match(await refusal(join(folder, 'x'.repeat(120))), /too long/);
  });

  test('goes to exactly one of several that want it at once', async () => {
    path = join(folder, 'flanneld.sock');
    await leaveStaleSocket(path);
    const script = `
      import { ControlServer } from ${JSON.stringify(new URL('../../../src/observe/control-server.js', import.meta.url).href)};
      try {
        await ControlServer.listen(${JSON.stringify(path)}, { version: 'x', status: () => ({}), leaseAnswers: () => [] });
        process.stdout.write('mine');
      } catch { process.stdout.write('theirs'); }
      process.stdin.on('end', () => process.exit()).resume();
    `;
    const contenders = Array.from({ length: 4 }, () =>
      spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] }),
    );
    try {
      const outcomes = await Promise.all(
        contenders.map(
          (child) => new Promise<string>((resolve) => child.stdout.once('data', (data) => resolve(String(data)))),
        ),
      );
      assert.equal(outcomes.filter((outcome) => outcome === 'mine').length, 1);
    } finally {
      for (const child of contenders) child.stdin.end();
      await Promise.all(contenders.map((child) => new Promise((resolve) => child.on('exit', resolve))));
    }
  });

  test('a probe finds nothing where nothing is', async () => {
    assert.deepEqual(await probeControlSocket(join(folder, 'none')), { state: 'none' });
  });
});
