/**
 * Our leases beside those of a real flannel:
 *
 *     ours ── unix socket ──┐
 *                           etcd
 *     flanneld ── 127.0.0.1 ┘   (namespace with eth0 192.168.64.3/24)
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { EtcdServer } from '../../../src/lab/etcd-server.js';
import { Namespace } from '../../../src/lab/namespace.js';
import { formatSubnetEnv, parseSubnetEnv } from '../../../src/subnet/subnet-env.js';
import { config, Diary, manager, PREFIX, request, subnetText, SUBNETS, Table, until, value } from './store.js';
import { findFlannel } from '../../harness/flannel-peer.js';
import { namePrefix, temporaryFolder } from '../../harness/leftovers.js';

const { program: flanneld, why } = await findFlannel();
const skip = flanneld === undefined ? why : false;

let namespace: Namespace;
let etcd: EtcdServer;
let folder: string;
const abort = new AbortController();

before(async () => {
  if (flanneld === undefined) return;
  folder = await temporaryFolder('interop');
  namespace = await Namespace.create(namePrefix('interop'));
  await namespace.addBridge('eth0');
  await namespace.addAddress('eth0', '192.168.64.3/24');
  await namespace.addRoute('default', 'via 192.168.64.1');
  etcd = await EtcdServer.start({
    spawn: (command, args, { cwd, env, stdio }) =>
      namespace.spawn(command, args, {
        workingDirectory: String(cwd),
        environment: { PATH: env?.['PATH'] ?? '' },
        stdio,
      }),
  });
  await etcd.put(`${PREFIX}/config`, '{"Network":"10.5.0.0/16","Backend":{"Type":"udp"}}');
});
after(async () => {
  abort.abort();
  if (flanneld === undefined) return;
  // Whichever of them the preparation got to.
  await (etcd as EtcdServer | undefined)?.dispose();
  await (namespace as Namespace | undefined)?.remove();
  rmSync(folder, { recursive: true, force: true });
});

/** Runs flannel until it has written its subnet.env, which it returns; flannel goes on. */
async function startFlannel(name: string): Promise<{ text: string; stop: () => Promise<void> }> {
  assert.ok(flanneld !== undefined);
  const file = join(folder, name);
  const child = namespace.spawn(
    flanneld,
    [
      `--etcd-endpoints=${etcd.endpoints.join(',')}`,
      `--subnet-file=${file}`,
      '--iface=eth0',
      '--iptables-forward-rules=false',
    ],
    { stdio: 'ignore' },
  );
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  await until('the subnet file of flannel', () => existsSync(file));
  const stop = () => {
    child.kill('SIGTERM');
    return ended;
  };
  return { text: readFileSync(file, 'utf8'), stop };
}

test('leases of flannel are read, and ours are byte for byte what flannel writes', { skip }, async () => {
  const ours = manager([`unix://${etcd.directory}/client:0`]);
  const table = new Table();
  void ours.watchLeases(config(), table, abort.signal);
  const peer = await startFlannel('first.env');
  try {
    await until('the lease of flannel', () => table.rows.size === 1);
    const [[subnet, owner]] = [...table.rows];
    assert.equal(owner, '192.168.64.3');
    const env = parseSubnetEnv(peer.text);
    assert.ok(env.subnet !== undefined && env.network !== undefined);
    assert.equal(subnetText({ subnet: env.subnet }), subnet);
    assert.deepEqual(env.network, config().network);
    assert.equal(
      formatSubnetEnv({ network: env.network, subnet: env.subnet, mtuBytes: 1472, ipMasq: false }),
      peer.text,
    );
    assert.equal(await etcd.get(SUBNETS + subnet.replace('/', '-')), value('192.168.64.3'));

    const lease = await ours.acquireLease(config(), request('192.168.64.4'), abort.signal);
    assert.notEqual(subnetText(lease), subnet);
    assert.equal(await etcd.get(SUBNETS + subnetText(lease).replace('/', '-')), value('192.168.64.4'));
    await until('both leases', () => table.rows.size === 2);
  } finally {
    await peer.stop();
    ours.close();
  }
});

test('flannel takes over a lease of ours, and ours one of flannel, on the same node', { skip }, async () => {
  await etcd.delete(SUBNETS, { prefix: true });
  const ours = manager([`unix://${etcd.directory}/client:0`]);
  try {
    const lease = await ours.acquireLease(config(), request('192.168.64.3', '10.5.77.0/24'), abort.signal);
    assert.equal(subnetText(lease), '10.5.77.0/24');
    const peer = await startFlannel('second.env');
    await peer.stop();
    assert.match(peer.text, /^FLANNEL_SUBNET=10\.5\.77\.1\/24$/m);
    const again = await ours.acquireLease(config(), request('192.168.64.3'), abort.signal);
    assert.equal(subnetText(again), '10.5.77.0/24');
  } finally {
    ours.close();
  }
});

test("a flannel that starts on this node's address is not fought: the lease is kept together", { skip }, async () => {
  await etcd.delete(SUBNETS, { prefix: true });
  const ours = manager([`unix://${etcd.directory}/client:0`]);
  const diary = new Diary();
  const over = new AbortController();
  try {
    const lease = await ours.acquireLease(config(), request('192.168.64.3', '10.5.78.0/24'), abort.signal);
    const kept = ours.keepLease(lease, 3600, diary, over.signal);
    const peer = await startFlannel('third.env');
    await until('the new lease behind the key', () => diary.entries.length > 0);
    await peer.stop();
    over.abort();
    await kept;
    assert.deepEqual(new Set(diary.entries), new Set(['renewed']));
    assert.equal(diary.last?.reserved, false);
  } finally {
    over.abort();
    ours.close();
  }
});
