/** A cluster of three etcd servers, of which some are away, silent or without the others; a proxy before each. */
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { formatIpv4 } from '../../../src/packet/address.js';
import type { Lease } from '../../../src/subnet/lease.js';
import type { SubnetManager } from '../../../src/subnet/subnet-manager.js';
import { StoreError } from '../../../src/subnet/etcd/store-error.js';
import { EtcdMembers } from '../../harness/etcd-members.js';
import { temporaryFolder } from '../../harness/leftovers.js';
import { Proxy } from './proxy.js';
import { config, Diary, FAST, FAST_PINGS, manager, PREFIX, request, SUBNETS, Table, until, value } from './store.js';
import type { TestManagerOptions } from './store.js';

const PATIENT = { ...FAST, requestTimeoutMs: 2_000, keepaliveTimeoutMs: 1_000 };
/** What the tests write, again and again, with the number of the writing in its address. */
const COUNTED = '10.5.9.0/24';

let members: EtcdMembers;
let proxies: Proxy[];
let abort: AbortController;
let managers: SubnetManager[];
let written = 0;

before(async () => {
  members = await EtcdMembers.start(3, FAST_PINGS);
});
after(() => members?.dispose());
beforeEach(async () => {
  proxies = await Promise.all(members.servers.map(({ endpoints }) => Proxy.before(endpoints)));
  abort = new AbortController();
  managers = [];
});
afterEach(() => {
  abort.abort();
  for (const one of managers) one.close();
  for (const proxy of proxies) proxy.close();
});

/** Keeps each number of the counted lease that it is told. */
class History extends Table {
  readonly numbers: number[] = [];

  override change(...told: Parameters<Table['change']>): void {
    super.change(...told);
    const now = this.rows.get(COUNTED);
    if (now !== undefined) this.numbers.push(Number(now.split('.')[3]));
  }
}

function connect(options: TestManagerOptions = {}): SubnetManager {
  const endpoints = proxies.map(({ endpoint }) => endpoint);
  const one = manager(endpoints, { timings: PATIENT, ...options });
  managers.push(one);
  return one;
}

/** The member that the node is connected to, by its number. */
function used(): number {
  const found = proxies.findIndex(({ open }) => open > 0);
  assert.notEqual(found, -1);
  return found;
}

/** Writes the counted lease on a member that lives, and waits until the table has it. */
async function seen(table: Table): Promise<void> {
  const number = ++written;
  const living = members.servers.filter(({ pid }) => pid !== undefined);
  await until('a write', async () => {
    for (const one of living) {
      const done = await one.put(`${SUBNETS}10.5.9.0-24`, value(`192.168.64.${number}`)).then(
        () => true,
        () => false,
      );
      if (done) return true;
    }
    return false;
  });
  await until(`write ${number} in the table`, () => table.rows.get(COUNTED) === `192.168.64.${number}`);
}

interface Node {
  readonly one: SubnetManager;
  readonly lease: Lease;
  readonly diary: Diary;
  readonly table: History;
}

async function start(publicIp: string, options: TestManagerOptions = {}): Promise<Node> {
  const one = connect(options);
  const lease = await one.acquireLease(config(), request(publicIp), abort.signal);
  const [diary, table] = [new Diary(), new History()];
  void one.keepLease(lease, 3600, diary, abort.signal);
  void one.watchLeases(config(), table, abort.signal);
  await seen(table);
  return { one, lease, diary, table };
}

/** The lease was its own all the time, and nothing that it was told was older than what it had been told before. */
async function assertUnharmed({ one, lease, diary, table }: Node): Promise<void> {
  assert.deepEqual(
    diary.entries.filter((entry) => entry !== 'renewed'),
    [],
  );
  const stored = (await one.listLeases(abort.signal)).find(({ subnet }) => subnet.address === lease.subnet.address);
  assert.equal(stored && formatIpv4(stored.publicIp), formatIpv4(lease.publicIp));
  assert.deepEqual(
    table.numbers,
    table.numbers.toSorted((a, b) => a - b),
  );
}

test('the leader is lost, which the node was connected to; then most members are; then they are back', async () => {
  const node = await start('192.168.65.1');
  const first = members.servers[used()];
  await members.lead(first);
  await first.kill();
  await seen(node.table);

  const second = members.servers[used()];
  await second.kill();
  const rows = node.table.object;
  await assert.rejects(node.one.networkConfig(abort.signal), (error) => {
    assert.ok(error instanceof StoreError);
    assert.match(error.message, /connection refused|it closed the connection|no leader|no answer/);
    return true;
  });
  assert.deepEqual(node.table.object, rows, 'the table stays while there is no quorum');

  await Promise.all([first.restart(), second.restart()]);
  await seen(node.table);
  await assertUnharmed(node);
});

test('a member that falls silent is left for another, by the watch and by requests', async () => {
  await members.servers[0].put(`${PREFIX}/config`, '{"Network":"10.5.0.0/16"}');
  const node = await start('192.168.65.2');
  const silent = used();
  proxies[silent].stick();
  assert.ok((await node.one.networkConfig(abort.signal)).enableIpv4);
  await seen(node.table);
  proxies[silent].mend();
  await assertUnharmed(node);
});

test('a login that a member has forgotten, or whose password was changed, is made anew', async () => {
  const folder = await temporaryFolder('login');
  const passwordFile = join(folder, 'password');
  try {
    writeFileSync(passwordFile, 'first\n');
    const [root] = members.servers;
    await root.enableAuth('r00t');
    await root.addUser('flannel', 'first', `${PREFIX}/`);
    const node = await start('192.168.65.3', { username: 'flannel', passwordFile });
    await members.servers[used()].restart();
    await seen(node.table);
    writeFileSync(passwordFile, 'second\n');
    await root.call('/v3/auth/user/changepw', { name: 'flannel', password: 'second' });
    for (const proxy of proxies) proxy.mend();
    await root.delete(`${SUBNETS}10.5.9.0-24`);
    await until('the removal', () => !node.table.rows.has(COUNTED));
    await assertUnharmed(node);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
