import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { EtcdServer, freePort } from '../../../src/lab/etcd-server.js';
import type { LeaseAnswer } from '../../../src/observe/control-protocol.js';
import { flannelctl, temporaryFolder, type CommandResult } from '../../support/flannelctl.js';

const PREFIX = '/coreos.com/network';
const CONFIG = '{"Network": "10.5.0.0/16"}';

describe('flannelctl on a real etcd', { timeout: 120_000 }, () => {
  let etcd: EtcdServer;
  let env: Record<string, string>;

  before(async () => {
    etcd = await EtcdServer.start();
    env = { FLANNELD_ETCD_ENDPOINTS: etcd.endpoints.join(',') };
  });
  after(() => etcd.dispose());
  beforeEach(async () => {
    await etcd.delete(`${PREFIX}/`, { prefix: true });
    await etcd.put(`${PREFIX}/config`, CONFIG);
  });

  const run = (...args: string[]): Promise<CommandResult> => flannelctl(args, { env });
  const key = (name: string): string => `${PREFIX}/subnets/${name}`;

  /** A lease as a daemon holds it: the key on an etcd lease. */
  async function leased(name: string, publicIp: string, ttlSeconds = 86_400): Promise<void> {
    const { ID } = await etcd.call('/v3/lease/grant', { TTL: ttlSeconds });
    const base64 = (text: string): string => Buffer.from(text).toString('base64');
    const value = `{"PublicIP":"${publicIp}","PublicIPv6":null}`;
    await etcd.call('/v3/kv/put', { key: base64(key(name)), value: base64(value), lease: ID });
  }

  async function etcdLeaseOf(name: string): Promise<string> {
    const answer = await etcd.call('/v3/kv/range', { key: Buffer.from(key(name)).toString('base64') });
    const [found] = (answer.kvs ?? []) as { lease?: string }[];
    assert.ok(found, `${name} is in etcd`);
    return found.lease ?? '0';
  }

  function refused(result: CommandResult, status: 1 | 2, line: RegExp): void {
    assert.match(result.stderr, line);
    assert.equal(result.stderr.split('\n').length, 2, result.stderr);
    assert.deepEqual({ status: result.status, stdout: result.stdout }, { status, stdout: '' });
  }

  test('reserve writes a key that never expires, in the words flannel reads', async () => {
    const result = await run('leases', 'reserve', '10.5.34.0/24', '--for', '192.0.2.1');
    assert.deepEqual(result, { status: 0, stdout: '10.5.34.0/24 is reserved for 192.0.2.1\n', stderr: '' });
    assert.equal(await etcd.get(key('10.5.34.0-24')), '{"PublicIP":"192.0.2.1","PublicIPv6":null}');
    assert.equal(await etcdLeaseOf('10.5.34.0-24'), '0');
  });

  test('reserving twice for the same node is no error', async () => {
    for (let round = 0; round < 2; round++) {
      const result = await run('leases', 'reserve', '10.5.34.0/24', '--for', '192.0.2.1', '--json');
      assert.deepEqual(JSON.parse(result.stdout), {
        subnet: '10.5.34.0/24',
        publicIP: '192.0.2.1',
        reserved: true,
        expires: null,
        backendType: 'udp',
        own: false,
      });
    }
  });

  test("a running node's lease becomes its reservation", async () => {
    await leased('10.5.34.0-24', '192.0.2.1');
    assert.notEqual(await etcdLeaseOf('10.5.34.0-24'), '0');
    assert.equal((await run('leases', 'reserve', '10.5.34.0/24', '--for', '192.0.2.1')).status, 0);
    assert.equal(await etcdLeaseOf('10.5.34.0-24'), '0');
  });

  test('reserve takes nothing from another node', async () => {
    await leased('10.5.34.0-24', '192.0.2.1');
    refused(
      await run('leases', 'reserve', '10.5.34.0/24', '--for', '192.0.2.2'),
      1,
      /^flannelctl: 10\.5\.34\.0\/24 cannot be had: 10\.5\.34\.0\/24 is leased to 192\.0\.2\.1\n$/,
    );
    assert.notEqual(await etcdLeaseOf('10.5.34.0-24'), '0');
  });

  test('reserve sees a lease of another length that overlaps', async () => {
    await etcd.put(key('10.5.32.0-22'), '{"PublicIP":"192.0.2.1","PublicIPv6":null}');
    refused(
      await run('leases', 'reserve', '10.5.34.0/24', '--for', '192.0.2.2'),
      1,
      /^flannelctl: 10\.5\.34\.0\/24 cannot be had: 10\.5\.32\.0\/22 is reserved for 192\.0\.2\.1/,
    );
  });

  test('a node gets no second subnet', async () => {
    await leased('10.5.34.0-24', '192.0.2.1');
    refused(
      await run('leases', 'reserve', '10.5.35.0/24', '--for', '192.0.2.1'),
      1,
      /^flannelctl: 192\.0\.2\.1 has a subnet already: 10\.5\.34\.0\/24 is leased to 192\.0\.2\.1/,
    );
  });

  const REFUSED: readonly { subnet: string; owner: string; status: 1 | 2; line: RegExp }[] = [
    { subnet: '10.5.34.0', owner: '192.0.2.1', status: 2, line: /SUBNET '10\.5\.34\.0': expected a prefix such as/ },
    { subnet: '10.5.34.1/24', owner: '192.0.2.1', status: 2, line: /boundary: expected 10\.5\.34\.0\/24/ },
    {
      subnet: '10.5.34.0/25',
      owner: '192.0.2.1',
      status: 1,
      line: /is no subnet of this network: expected a \/24 from/,
    },
    { subnet: '10.6.34.0/24', owner: '192.0.2.1', status: 1, line: /from 10\.5\.1\.0 to 10\.5\.255\.0/ },
    { subnet: '10.5.0.0/24', owner: '192.0.2.1', status: 1, line: /from 10\.5\.1\.0 to 10\.5\.255\.0/ },
    { subnet: '10.5.34.0/24', owner: 'node1', status: 2, line: /--for 'node1': expected an IPv4 address/ },
    { subnet: '10.5.34.0/24', owner: '127.0.0.1', status: 2, line: /--for 127\.0\.0\.1 is a loopback address/ },
    { subnet: '10.5.34.0/24', owner: '224.0.0.1', status: 2, line: /is a multicast address/ },
    { subnet: '10.5.34.0/24', owner: '255.255.255.255', status: 2, line: /is a reserved address/ },
    { subnet: '10.5.34.0/24', owner: '10.5.99.1', status: 1, line: /10\.5\.99\.1 lies inside the network/ },
  ];
  for (const { subnet, owner, status, line } of REFUSED) {
    test(`reserve refuses ${subnet} for ${owner}`, async () => {
      refused(await run('leases', 'reserve', subnet, '--for', owner), status, line);
      assert.equal(await etcd.get(key(subnet.replace('/', '-'))), undefined);
    });
  }

  test('reserve without --for, and an unknown command below leases, are usage errors', async () => {
    refused(await run('leases', 'reserve', '10.5.34.0/24'), 2, /required option '--for <ip>' not specified/);
    refused(await run('leases', 'relese', '10.5.34.0/24'), 2, /unknown command 'leases relese': expected reserve/);
    refused(await run('leases', 'relese'), 2, /unknown command 'leases relese': expected reserve or release/);
  });

  test('release removes a lease and a reservation, and says whose it was', async () => {
    await leased('10.5.34.0-24', '192.0.2.1');
    assert.deepEqual(await run('leases', 'release', '10.5.34.0/24'), {
      status: 0,
      stdout: '10.5.34.0/24 is free; it was leased to 192.0.2.1\n',
      stderr: '',
    });
    assert.equal(await etcd.get(key('10.5.34.0-24')), undefined);
    await run('leases', 'reserve', '10.5.34.0/24', '--for', '192.0.2.1');
    const json = await run('leases', 'release', '10.5.34.0/24', '--json');
    assert.deepEqual(JSON.parse(json.stdout), {
      subnet: '10.5.34.0/24',
      publicIP: '192.0.2.1',
      reserved: true,
      expires: null,
      backendType: 'udp',
      own: false,
    });
    refused(await run('leases', 'release', '10.5.34.0/24'), 1, /^flannelctl: nobody holds 10\.5\.34\.0\/24/);
  });

  test('leases --from-store lists what is in etcd with every expiry, no daemon needed', async () => {
    await leased('10.5.34.0-24', '192.0.2.1', 3600);
    await run('leases', 'reserve', '10.5.7.0/24', '--for', '192.0.2.2');
    await etcd.put(key('nonsense'), '{}');
    const json = await run('leases', '--from-store', '--json');
    const leases = JSON.parse(json.stdout) as LeaseAnswer[];
    assert.deepEqual(
      leases.map(({ subnet, publicIP, reserved, own }) => ({ subnet, publicIP, reserved, own })),
      [
        { subnet: '10.5.7.0/24', publicIP: '192.0.2.2', reserved: true, own: false },
        { subnet: '10.5.34.0/24', publicIP: '192.0.2.1', reserved: false, own: false },
      ],
    );
    assert.equal(leases[0].expires, null);
    const expiry = Date.parse(leases[1].expires ?? '') - Date.now();
    assert.ok(expiry > 3_000_000 && expiry <= 3_605_000, leases[1].expires ?? 'no expiry');
    const table = await run('leases', '--from-store');
    assert.match(table.stdout, /^ {2}SUBNET {8}PUBLIC IP {2}RESERVED {2}EXPIRES +BACKEND$/m);
    assert.match(table.stdout, /^ {2}10\.5\.7\.0\/24 {3}192\.0\.2\.2 {2}yes {7}never +udp$/m);
  });

  test('network set checks, writes what it was given, and network show reads it back', async (t) => {
    const file = join(await temporaryFolder(t), 'net-conf.json');
    const text = '{\n  "Network": "10.9.0.0/20",\n  "Backend": {"Type": "udp", "Port": 9000}\n}';
    await writeFile(file, `${text}\n`);
    const set = await run('network', 'set', file);
    assert.equal(set.status, 0, set.stderr);
    assert.match(set.stdout, /^The network configuration is written\.\nNetwork +10\.9\.0\.0\/20\n/);
    assert.equal(await etcd.get(`${PREFIX}/config`), text);
    const show = await run('network', 'show', '--json');
    assert.deepEqual(JSON.parse(show.stdout), {
      Network: '10.9.0.0/20',
      SubnetLen: 24,
      SubnetMin: '10.9.1.0',
      SubnetMax: '10.9.15.0',
      EnableIPv4: true,
      EnableIPv6: false,
      EnableNFTables: false,
      Backend: { Type: 'udp', Port: 9000 },
    });
    assert.equal((await run('network', 'show', '--raw')).stdout, `${text}\n`);
  });

  test('network set leaves etcd alone when the configuration is bad', async () => {
    refused(await run('network', 'set', '{"Network": "10.9.0.0/29"}'), 1, /^flannelctl: .*10\.9\.0\.0\/29/);
    assert.equal(await etcd.get(`${PREFIX}/config`), CONFIG);
  });

  test('network set refuses to strand leases, unless forced', async () => {
    await leased('10.5.34.0-24', '192.0.2.1');
    const moved = '{"Network": "10.9.0.0/16"}';
    refused(
      await run('network', 'set', moved),
      1,
      /^flannelctl: not written: 1 lease does not fit this configuration \(10\.5\.34\.0\/24 is leased to 192\.0\.2\.1\); --force/,
    );
    assert.equal(await etcd.get(`${PREFIX}/config`), CONFIG);
    const forced = await run('network', 'set', moved, '--force');
    assert.equal(forced.status, 0);
    assert.match(forced.stderr, /^flannelctl: warning: 1 lease does not fit/);
    assert.equal(await etcd.get(`${PREFIX}/config`), moved);
  });

  test('network show and check say what is wrong with what is in etcd', async () => {
    await etcd.put(`${PREFIX}/config`, 'null');
    refused(await run('network', 'show'), 1, /^flannelctl: the network configuration is null: expected a JSON object/);
    refused(await run('network', 'check'), 1, /^flannelctl: the network configuration is null: expected a JSON object/);
    assert.equal((await run('network', 'show', '--raw')).stdout, 'null\n');
    await etcd.delete(`${PREFIX}/config`);
    refused(await run('network', 'show'), 1, /^flannelctl: .*\/coreos\.com\/network\/config/);
    refused(await run('leases', 'reserve', '10.5.34.0/24', '--for', '192.0.2.1'), 1, /\/coreos\.com\/network\/config/);
  });

  test('the prefix is honoured, from the flag before the environment', async () => {
    await etcd.put('/second/config', '{"Network": "10.77.0.0/16"}');
    try {
      const show = await flannelctl(['network', 'show', '--etcd-prefix', '/second'], {
        env: { ...env, FLANNELD_ETCD_PREFIX: '/third' },
      });
      assert.match(show.stdout, /^Network +10\.77\.0\.0\/16$/m);
    } finally {
      await etcd.delete('/second/', { prefix: true });
    }
  });

  test('an etcd that cannot be reached is one line naming it', async () => {
    const endpoint = `http://127.0.0.1:${await freePort()}`;
    refused(
      await run('network', 'show', '--etcd-endpoints', endpoint),
      1,
      new RegExp(`^flannelctl: .*${endpoint.slice('http://'.length)}`),
    );
  });
});

test('user and password reach an etcd that asks for them, and one line says so when they are wrong', async (t) => {
  const etcd = await EtcdServer.start();
  t.after(() => etcd.dispose());
  await etcd.put(`${PREFIX}/config`, CONFIG);
  await etcd.enableAuth('root-password');
  await etcd.addUser('flannel', 'secret', `${PREFIX}/`);
  const env = {
    FLANNELD_ETCD_ENDPOINTS: etcd.endpoints.join(','),
    FLANNELD_ETCD_USERNAME: 'flannel',
    FLANNELD_ETCD_PASSWORD: 'secret',
  };
  const good = await flannelctl(['network', 'show'], { env });
  assert.equal(good.status, 0, good.stderr);
  const reserve = await flannelctl(['leases', 'reserve', '10.5.34.0/24', '--for', '192.0.2.1'], { env });
  assert.equal(reserve.status, 0, reserve.stderr);
  for (const wrong of [
    { ...env, FLANNELD_ETCD_PASSWORD: 'guess' },
    { FLANNELD_ETCD_ENDPOINTS: env.FLANNELD_ETCD_ENDPOINTS },
  ]) {
    const { status, stderr, stdout } = await flannelctl(['network', 'show'], { env: wrong });
    assert.deepEqual({ status, stdout }, { status: 1, stdout: '' });
    assert.match(stderr, /^flannelctl: [^\n]*(password|user|authenticat|permission)[^\n]*\n$/i);
    assert.doesNotMatch(stderr, /guess/);
  }
});
