/** Certificates that expire, and files that are replaced while the agent runs, between a real etcd and its client. */
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { EtcdServer } from '../../../src/lab/etcd-server.js';
import type { Logger } from '../../../src/log.js';
import type { SubnetManager } from '../../../src/subnet/subnet-manager.js';
import { temporaryFolder } from '../../harness/leftovers.js';
import { makeCertificate, makeExpiredCertificate } from './certificates.js';
import type { Certificate } from './certificates.js';
import { Proxy } from './proxy.js';
import { config, manager, SUBNETS, Table, until, value } from './store.js';

const FAST = { requestTimeoutMs: 2_000, connectTimeoutMs: 1_000 };
const ADDRESS = '127.0.0.1';

let folder: string;
let ca: Certificate;
let otherCa: Certificate;
let server: Certificate;
let client: Certificate;
/** What etcd and the agent are told to read. */
let live: { ca: string; server: Certificate; client: Certificate };
let etcd: EtcdServer;
let proxy: Proxy;
let one: SubnetManager;
let abort: AbortController;
let table: Table;
let lines: string[];
let written = 0;

before(async () => {
  folder = await temporaryFolder('rotation');
  ca = makeCertificate(folder, 'authority');
  otherCa = makeCertificate(folder, 'other');
  server = makeCertificate(folder, 'server', ca, ADDRESS);
  client = makeCertificate(folder, 'client', ca);
  mkdirSync(join(folder, 'live'));
  const path = (name: string): string => join(folder, 'live', name);
  live = {
    ca: path('ca.crt'),
    server: { cert: path('server.crt'), key: path('server.key') },
    client: { cert: path('client.crt'), key: path('client.key') },
  };
  replace(live.server, server);
  const tls = { certFile: live.server.cert, keyFile: live.server.key, clientCaFile: ca.cert };
  etcd = await EtcdServer.start({ tls });
});
after(async () => {
  await etcd?.dispose();
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(async () => {
  replace(live.server, server);
  replace(live.client, client);
  copyFileSync(ca.cert, live.ca);
  proxy = await Proxy.before(etcd.endpoints);
  abort = new AbortController();
  lines = [];
  const line = (text: string): void => void lines.push(text);
  const logger: Logger = { debug() {}, info: line, warn: line, error: line };
  const { cert: certFile, key: keyFile } = live.client;
  one = manager([proxy.endpoint], { timings: FAST, logger, caFile: live.ca, certFile, keyFile });
  table = new Table();
  void one.watchLeases(config(), table, abort.signal);
  await followed();
});
afterEach(() => {
  abort.abort();
  one.close();
  proxy.close();
});

function replace(one: Certificate, by: Certificate): void {
  copyFileSync(by.cert, one.cert);
  copyFileSync(by.key, one.key);
}

/** Whether what is written in etcd comes to the table. */
async function followed(): Promise<void> {
  const owner = `192.168.64.${++written}`;
  await etcd.put(`${SUBNETS}10.5.1.0-24`, value(owner));
  await until(`${owner} in the table\n${lines.join('\n')}`, () => table.rows.get('10.5.1.0/24') === owner);
}

async function told(pattern: RegExp): Promise<void> {
  await until(`${String(pattern)} in\n${lines.join('\n')}`, () => lines.some((line) => pattern.test(line)));
  assert.equal(table.rows.size, 1, 'the table stays');
  for (const line of lines) assert.doesNotMatch(line, /\n/);
  assert.equal(lines.filter((line) => pattern.test(line)).length, 1, lines.join('\n'));
}

test("the server's certificate expires, is replaced, and is replaced by one of another authority", async () => {
  replace(live.server, makeExpiredCertificate(folder, 'old-server', ca, ADDRESS));
  proxy.mend();
  await told(/etcd at https:.*TLS: its certificate has expired; replace it there/);
  replace(live.server, makeCertificate(folder, 'foreign-server', otherCa, ADDRESS));
  await told(/etcd at https:.*TLS: .*verify.*check --etcd-cafile/);
  copyFileSync(otherCa.cert, live.ca);
  await told(/^the TLS files for etcd have changed: connections from now on use them/);
  await followed();
});

test("the node's certificate expires, and is replaced, one file after the other", async () => {
  const old = makeExpiredCertificate(folder, 'old-client', ca, ADDRESS);
  replace(live.client, old);
  proxy.mend();
  await told(
    /etcd at https:.*TLS: the client certificate in .*client\.crt has expired \(Jan +2 .*2020 GMT\); replace it/,
  );
  copyFileSync(client.cert, live.client.cert);
  await told(/^etcd's TLS files .*client\.crt cannot be used: .*; connecting to etcd with what was there before/);
  copyFileSync(client.key, live.client.key);
  await followed();
});

test('files that vanish or are half written change nothing while they are so', async () => {
  writeFileSync(live.client.cert, '');
  rmSync(live.ca);
  proxy.mend();
  await followed();
  await told(/^--etcd-cafile .*ca\.crt cannot be read: there is no such file; connecting to etcd with what was/);
  copyFileSync(ca.cert, live.ca);
  proxy.mend();
  await followed();
  await told(/^--etcd-certfile .*client\.crt: expected a file in PEM form; connecting to etcd/);
});
