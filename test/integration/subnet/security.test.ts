import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FlannelError, UsageError } from '../../../src/errors.js';
import { EtcdServer } from '../../../src/lab/etcd-server.js';
import type { EtcdServerOptions } from '../../../src/lab/etcd-server.js';
import type { EtcdSubnetManagerOptions } from '../../../src/subnet/etcd/etcd-subnet-manager.js';
import { makeCertificate } from './certificates.js';
import type { Certificate } from './certificates.js';
import { config, Diary, manager, PREFIX, request, SUBNETS, subnetText, Table, until, value } from './store.js';
import { temporaryFolder } from '../../harness/leftovers.js';

const PASSWORD = 'correct horse';
let folder: string;
let ca: Certificate;
let stranger: Certificate;
let server: Certificate;
let client: Certificate;

before(async () => {
  folder = await temporaryFolder('tls');
  ca = makeCertificate(folder, 'authority');
  stranger = makeCertificate(folder, 'stranger');
  server = makeCertificate(folder, 'server', ca, '127.0.0.1');
  client = makeCertificate(folder, 'client', ca);
});
after(() => rmSync(folder, { recursive: true, force: true }));

async function withEtcd(options: EtcdServerOptions, use: (etcd: EtcdServer) => Promise<void>): Promise<void> {
  const etcd = await EtcdServer.start(options);
  try {
    await etcd.put(`${PREFIX}/config`, '{"Network":"10.5.0.0/16"}');
    await use(etcd);
  } finally {
    await etcd.dispose();
  }
}

/** Asks for the configuration; `undefined` when that works, else the message of the refusal. */
async function refusal(
  endpoints: readonly string[],
  options: Partial<EtcdSubnetManagerOptions>,
): Promise<string | undefined> {
  const one = manager(endpoints, options);
  try {
    await one.networkConfig(new AbortController().signal);
    return undefined;
  } catch (error) {
    assert.ok(error instanceof FlannelError && error.code === 'STORE', String(error));
    assert.doesNotMatch(error.message, /\n/);
    assert.ok(!error.message.includes(PASSWORD));
    return error.message;
  } finally {
    one.close();
  }
}

/** Everything an agent does, once: lease, keep through a deletion, watch. */
async function wholeLife(etcd: EtcdServer, options: Partial<EtcdSubnetManagerOptions>): Promise<void> {
  const one = manager(etcd.endpoints, { ttlSeconds: 4, ...options });
  const abort = new AbortController();
  try {
    const lease = await one.acquireLease(config(), request('192.168.64.3', '10.5.34.0/24'), abort.signal);
    const diary = new Diary();
    const table = new Table();
    const running = [one.keepLease(lease, 2, diary, abort.signal), one.watchLeases(config(), table, abort.signal)];
    await until('the own lease in the table', () => table.rows.get(subnetText(lease)) === '192.168.64.3');
    await until('a renewal', () => diary.entries.length > 0);
    await etcd.delete(`${SUBNETS}10.5.34.0-24`);
    await until('the lease taken back', async () => (await etcd.get(`${SUBNETS}10.5.34.0-24`)) !== undefined);
    assert.deepEqual(new Set(diary.entries), new Set(['renewed']));
    abort.abort();
    await Promise.all(running);
  } finally {
    abort.abort();
    one.close();
  }
}

test('TLS with the authority alone works, and refusals say what is wrong', async () => {
  const warnings: Error[] = [];
  const remember = (warning: Error) => void warnings.push(warning);
  process.on('warning', remember);
  await withEtcd({ tls: { certFile: server.cert, keyFile: server.key } }, async (etcd) => {
    await wholeLife(etcd, { caFile: ca.cert });
    const bare = etcd.endpoints.map((endpoint) => endpoint.replace('https://', ''));
    assert.equal(await refusal(bare, { caFile: ca.cert }), undefined);
    assert.match(
      (await refusal(etcd.endpoints, { caFile: stranger.cert })) ?? '',
      /TLS: unable to verify .*--etcd-cafile/,
    );
    assert.match((await refusal(etcd.endpoints, {})) ?? '', /TLS: unable to verify .*--etcd-cafile/);
    const plain = etcd.endpoints.map((endpoint) => endpoint.replace('https', 'http'));
    assert.match((await refusal(plain, {})) ?? '', /expect https/);
    const elsewhere = etcd.endpoints.map((endpoint) => endpoint.replace('127.0.0.1', 'localhost'));
    assert.match((await refusal(elsewhere, { caFile: ca.cert })) ?? '', /TLS: .*altnames.*localhost/);
  });
  process.off('warning', remember);
  assert.deepEqual(warnings, []);
});

test('TLS with client certificates works, and a missing or wrong one is told', async () => {
  const tls = { certFile: server.cert, keyFile: server.key, clientCaFile: ca.cert };
  await withEtcd({ tls }, async (etcd) => {
    await wholeLife(etcd, { caFile: ca.cert, certFile: client.cert, keyFile: client.key });
    assert.match((await refusal(etcd.endpoints, { caFile: ca.cert })) ?? '', /client certificate/);
    const wrong = { caFile: ca.cert, certFile: stranger.cert, keyFile: stranger.key };
    assert.match((await refusal(etcd.endpoints, wrong)) ?? '', /client certificate/);
  });
});

test('a user whose role may touch only the prefix has all it needs, also after its token has expired', async () => {
  await withEtcd({ extraArguments: ['--auth-token-ttl=1'] }, async (etcd) => {
    await etcd.enableAuth('r00t');
    await etcd.addUser('flannel', PASSWORD, `${PREFIX}/`);
    await etcd.addUser('stranger', PASSWORD, '/elsewhere/');
    const account = { username: 'flannel', password: PASSWORD };
    await wholeLife(etcd, account);

    const one = manager(etcd.endpoints, account);
    const abort = new AbortController();
    const table = new Table();
    try {
      void one.watchLeases(config(), table, abort.signal);
      await one.networkConfig(abort.signal);
      await sleep(3_500);
      await one.networkConfig(abort.signal);
      await etcd.restart();
      await etcd.put(`${SUBNETS}10.5.77.0-24`, value('192.168.64.7'));
      await until('a watch with a new token', () => table.rows.has('10.5.77.0/24'));
    } finally {
      abort.abort();
      one.close();
    }

    assert.match((await refusal(etcd.endpoints, {})) ?? '', /demands a user; set --etcd-username/);
    assert.match(
      (await refusal(etcd.endpoints, { ...account, password: `${PASSWORD}!` })) ?? '',
      /user name or password/,
    );
    assert.match((await refusal(etcd.endpoints, { ...account, username: 'nobody' })) ?? '', /user name or password/);
    assert.match(
      (await refusal(etcd.endpoints, { ...account, username: 'stranger' })) ?? '',
      /permission denied.*prefix/,
    );
  });
});

test('a role that may only read is told so when it wants a lease', async () => {
  await withEtcd({}, async (etcd) => {
    await etcd.enableAuth('r00t');
    await etcd.addUser('reader', PASSWORD, `${PREFIX}/`, 'READ');
    const one = manager(etcd.endpoints, { username: 'reader', password: PASSWORD });
    const { signal } = new AbortController();
    try {
      await one.networkConfig(signal);
      await assert.rejects(one.acquireLease(config(), request('192.168.64.3'), signal), /permission denied.*write/);
    } finally {
      one.close();
    }
  });
});

test('a user and password for an etcd without authentication do no harm', async () => {
  await withEtcd({}, async (etcd) => {
    await wholeLife(etcd, { username: 'flannel', password: PASSWORD });
  });
});

test('files and endpoints that cannot be used are told with their flag, without a password in an URL', () => {
  const bad = (options: Partial<EtcdSubnetManagerOptions>, endpoints: string[], message: RegExp) =>
    assert.throws(
      () => manager(endpoints, options),
      (error) => error instanceof UsageError && message.test(error.message) && !error.message.includes('secret'),
    );
  const https = ['https://127.0.0.1:2379'];
  bad({ caFile: join(folder, 'none') }, https, /^--etcd-cafile .*none cannot be read/);
  bad({ caFile: '/etc/passwd' }, https, /^--etcd-cafile \/etc\/passwd: expected a file in PEM form/);
  bad({ certFile: client.cert }, https, /belong together/);
  bad({ certFile: client.cert, keyFile: stranger.key }, https, /cannot be used/);
  bad({ password: 'secret' }, https, /--etcd-password needs --etcd-username/);
  bad({}, [], /expected at least one/);
  bad({}, ['http://user:secret@127.0.0.1:2379'], /expected a URL/);
  bad({}, ['http://127.0.0.1:99999'], /expected a URL/);
  bad({}, ['127.0.0.1'], /expected a URL/);
});
