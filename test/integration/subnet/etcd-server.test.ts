import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { EtcdServer } from '../../../src/lab/etcd-server.js';
import { temporaryFolder } from '../../harness/leftovers.js';

test('a server keeps its data and port through a clean stop, a crash and a freeze', async () => {
  const server = await EtcdServer.start();
  try {
    await server.put('/a', 'one');
    const endpoints = server.endpoints;
    await server.restart();
    assert.equal(await server.get('/a'), 'one');
    await server.kill();
    assert.equal(server.pid, undefined);
    await server.restart();
    assert.deepEqual(server.endpoints, endpoints);
    server.pause();
    server.resume();
    assert.equal(await server.get('/a'), 'one');
    await server.delete('/a');
    assert.equal(await server.get('/a'), undefined);
  } finally {
    await server.dispose();
  }
  assert.equal(existsSync(server.directory), false);
});

test('an environment full of ETCD_ variables does not reach the server', async () => {
  process.env['ETCD_QUOTA_BACKEND_BYTES'] = 'nonsense';
  try {
    await (await EtcdServer.start()).dispose();
  } finally {
    delete process.env['ETCD_QUOTA_BACKEND_BYTES'];
  }
});

test('sockets that a killed server left in its folder do not stop the next', async () => {
  const directory = await temporaryFolder('left');
  try {
    const first = await EtcdServer.start({ directory });
    await first.put('/a', 'one');
    await first.kill();
    const second = await EtcdServer.start({ directory });
    assert.equal(await second.get('/a'), 'one');
    await assert.rejects(EtcdServer.start({ directory }), /another etcd is running/);
    await second.dispose();
    assert.equal(existsSync(directory), true);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('what a server in a killed process left is removed by the next, and what belongs to a living one stays', async () => {
  const gone = spawn('true');
  await once(gone, 'exit');
  const [abandoned, used] = [gone.pid, process.ppid].map((pid) => join(tmpdir(), `flannel-etcd-${pid}-test`));
  for (const folder of [abandoned, used]) await mkdir(join(folder, 'member'), { recursive: true });
  try {
    const server = await EtcdServer.start();
    await server.dispose();
    assert.equal(existsSync(server.directory), false);
    assert.deepEqual([abandoned, used].map(existsSync), [false, true]);
  } finally {
    await rm(used, { recursive: true });
  }
});

test('a port that is taken is told with the words of etcd', async () => {
  const squatter = createServer().listen(0, '127.0.0.1');
  try {
    await new Promise((resolve) => squatter.once('listening', resolve));
    const address = squatter.address();
    assert.ok(typeof address === 'object' && address !== null);
    await assert.rejects(EtcdServer.start({ port: address.port }), /etcd did not start.*address already in use/);
  } finally {
    squatter.close();
  }
});

test('with authentication the administrator goes on through a restart, which forgets tokens', async () => {
  const server = await EtcdServer.start();
  try {
    await server.enableAuth('r00t');
    await server.addUser('flannel', 'secret', '/coreos.com/network/');
    await server.restart();
    await server.put('/a', 'one');
    assert.equal(await server.get('/a'), 'one');
  } finally {
    await server.dispose();
  }
});
