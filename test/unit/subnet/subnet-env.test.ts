import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { FlannelError } from '../../../src/errors.js';
import { formatSubnetEnv, parseSubnetEnv, readSubnetEnv, writeSubnetEnv } from '../../../src/subnet/subnet-env.js';

const ENV = {
  network: { address: 0x0a050000, length: 16 },
  subnet: { address: 0x0a052200, length: 24 },
  mtuBytes: 1472,
  ipMasq: true,
};
const TEXT = 'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.34.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n';

const folder = mkdtempSync(join(tmpdir(), 'flannel-subnet-env-'));
after(() => rmSync(folder, { recursive: true, force: true }));

test('writes the four lines of flannel, with the first usable address of the subnet', () => {
  assert.equal(formatSubnetEnv(ENV), TEXT);
});

test('reads back what it writes', () => {
  assert.deepEqual(parseSubnetEnv(TEXT), ENV);
});

test('reads what other hands have made of the file', () => {
  const text =
    '# by hand\r\nexport FLANNEL_SUBNET="10.5.34.1/24"\r\nFLANNEL_IPV6_SUBNET=fc00::1/64\nrubbish\nFLANNEL_MTU=\n';
  assert.deepEqual(parseSubnetEnv(text), { subnet: ENV.subnet });
  assert.deepEqual(parseSubnetEnv('FLANNEL_SUBNET=10.5.34.1\nFLANNEL_NETWORK=10.5.0.0/99\nFLANNEL_MTU=99999999'), {});
  assert.deepEqual(parseSubnetEnv('\u0000\u0000'), {});
});

test('creates the folder, writes mode 0644 whatever the umask, and leaves nothing else behind', async () => {
  const path = join(folder, 'deep', 'er', 'subnet.env');
  const umask = process.umask(0o077);
  try {
    await writeSubnetEnv(path, ENV);
  } finally {
    process.umask(umask);
  }
  assert.equal(readFileSync(path, 'utf8'), TEXT);
  assert.equal(statSync(path).mode & 0o7777, 0o644);
  assert.deepEqual(readdirSync(join(folder, 'deep', 'er')), ['subnet.env']);
  const sourced = execFileSync('sh', ['-c', `. ${path}; echo $FLANNEL_SUBNET $FLANNEL_MTU`], { encoding: 'utf8' });
  assert.equal(sourced, '10.5.34.1/24 1472\n');
});

test('replaces an old file and what a killed run left half written', async () => {
  const path = join(folder, 'subnet.env');
  writeFileSync(path, 'old');
  writeFileSync(join(folder, '.subnet.env'), 'half', { mode: 0o600 });
  await writeSubnetEnv(path, { ...ENV, ipMasq: false });
  assert.deepEqual(await readSubnetEnv(path), { ...ENV, ipMasq: false });
  assert.equal(statSync(path).mode & 0o7777, 0o644);
  assert.equal(existsSync(join(folder, '.subnet.env')), false);
});

test('a reader sees the old file or the new one, never a part', async () => {
  const path = join(folder, 'busy.env');
  const other = { ...ENV, mtuBytes: 8972, ipMasq: false };
  await writeSubnetEnv(path, ENV);
  let writing = true;
  const writer = (async () => {
    for (let round = 0; round < 50; round++) await writeSubnetEnv(path, round % 2 === 0 ? other : ENV);
    writing = false;
  })();
  while (writing) {
    const text = readFileSync(path, 'utf8');
    assert.ok(text === TEXT || text === formatSubnetEnv(other), text);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await writer;
});

test('no file is no error; one that cannot be read or written is, with its path', async () => {
  assert.deepEqual(await readSubnetEnv(join(folder, 'none.env')), {});
  const directory = join(folder, 'directory.env');
  mkdirSync(directory);
  chmodSync(directory, 0o755);
  const named = (error: unknown) =>
    error instanceof FlannelError && error.code === 'HOST' && error.message.includes(directory);
  await assert.rejects(readSubnetEnv(directory), named);
  await assert.rejects(writeSubnetEnv(directory, ENV), named);
  assert.equal(existsSync(join(folder, '.directory.env')), false);
});
