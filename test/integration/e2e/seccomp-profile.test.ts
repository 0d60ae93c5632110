/** An agent that may make only the system calls that deploy/seccomp.json names, with all that it does. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { chmod, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { runCommand } from '../../../src/host/command.js';
import type { EtcdServer } from '../../../src/lab/etcd-server.js';
import { makeCertificates } from '../../harness/certificates.js';
import { Cluster, ETCD_ADDRESS, NETWORK, PREFIX, type ClusterNode } from '../../harness/cluster.js';
import { compileHarness, noCompiler } from '../../harness/compile.js';
import { type Daemon, FLANNELCTL, ROOT } from '../../harness/daemon.js';
import { ping } from '../../harness/ping.js';
import { assertTrafficArrives, untilReached } from '../../harness/pod-traffic.js';
import { privateView } from '../../harness/private-view.js';
import type { TrafficAccount } from '../../harness/paced-traffic.js';
import { threadRights } from '../../harness/process-status.js';
import { compileRestartPrograms, takeOver, underServiceManager, underTraffic } from '../../harness/restarts.js';

/** What is used here of the Linux part of the OCI runtime specification. */
interface SeccompProfile {
  readonly defaultAction: string;
  readonly defaultErrnoRet: number;
  readonly syscalls: readonly {
    readonly names: readonly string[];
    readonly action: string;
    readonly errnoRet?: number;
    readonly args?: readonly { index: number; value: number; valueTwo: number; op: string }[];
  }[];
}

const ENOSYS = 38;

const profile = JSON.parse(readFileSync(join(ROOT, 'deploy/seccomp.json'), 'utf8')) as SeccompProfile;

/** The profile as the initialisers of `allow_calls.cc`; calls that this architecture has not are left out. */
function rulesOf({ defaultAction, defaultErrnoRet, syscalls }: SeccompProfile): string {
  assert.deepEqual([defaultAction, defaultErrnoRet], ['SCMP_ACT_ERRNO', ENOSYS]);
  const lines = syscalls.flatMap(({ names, action, errnoRet, args = [] }) => {
    // Said again, for runtimes that do not know the default's number.
    if (action === 'SCMP_ACT_ERRNO' && errnoRet === ENOSYS) return [];
    assert.equal(action, 'SCMP_ACT_ALLOW');
    assert.ok(args.length <= 1);
    return names.map((name) => `#ifdef SYS_${name}\n{SYS_${name}, ${conditionOf(args[0])}},\n#endif\n`);
  });
  return lines.join('');
}

function conditionOf(argument?: { index: number; value: number; valueTwo: number; op: string }): string {
  if (argument === undefined) return '-1, 0, 0';
  const { index, value, valueTwo, op } = argument;
  if (op === 'SCMP_CMP_EQ') return `${index}, 0xffffffffu, ${value}u`;
  assert.equal(op, 'SCMP_CMP_MASKED_EQ');
  return `${index}, ${value}u, ${valueTwo}u`;
}

const TLS_PORT = 2381;

describe('an agent under the seccomp profile', { skip: noCompiler }, () => {
  let cluster: Cluster;
  let one: ClusterNode, other: ClusterNode;
  let filter: string, program: string;
  let secureStore: EtcdServer;
  /** Where its files are. */
  let run: string;
  let files: readonly string[];

  before(async () => {
    cluster = await Cluster.create('profile', { nodes: 2 });
    [one, other] = cluster.nodes;
    const { folder } = cluster;
    run = join(one.folder, 'run');
    files = [
      ...['--healthz-port=8080', `--subnet-file=${join(run, 'subnet.env')}`],
      `--control-socket=${join(run, 'flanneld.sock')}`,
    ];
    await chmod(folder, 0o755);
    await writeFile(join(folder, 'allowed_calls.inc'), rulesOf(profile));
    filter = await compileHarness('allow_calls.cc', folder, ['-I', folder]);
    program = await privateView(folder, filter);
    makeCertificates(folder);
    const [certFile, keyFile, clientCaFile] = ['server.pem', 'server-key.pem', 'ca.pem'].map((file) =>
      join(folder, file),
    );
    secureStore = await cluster.addEtcd(TLS_PORT, { tls: { certFile, keyFile, clientCaFile } });
    await other.start(['--ip-masq']);
    await other.addPod();
  });
  after(() => cluster?.dispose());

  /** Starts the agent, and holds it against all that is to work. */
  async function assertWorks(flags: readonly string[], config: object = {}): Promise<Daemon> {
    await cluster.putConfig({ Network: NETWORK, ...config });
    const daemon = await one.start([...files, ...flags], { program });
    if (one.pods.length === 0) await one.addPod();
    await untilReached(one.pods[0], other.pods[0]);
    await assertTrafficArrives(one.pods[0], other.pods[0]);
    assert.ok(threadRights(daemon.pid).every(({ filtered }) => filtered));
    const { backend } = await daemon.status();
    assert.deepEqual(backend?.offloads.filter(({ reason = '' }) => /refuses/.test(reason)) ?? [], []);
    // A start with another configuration than the last run's says so.
    assert.deepEqual(daemon.said(/ (WARN|ERROR) (?!the network configuration has changed since)/), []);
    return daemon;
  }

  async function assertStops(daemon: Daemon): Promise<void> {
    assert.equal((await daemon.stop()).status, 0, daemon.output);
  }

  test('runc can start a program under it, and threads start where the runtime answers with EPERM by default', () => {
    const answerTo = (name: string) => profile.syscalls.find(({ names }) => names.includes(name));
    assert.equal(answerTo('fstatfs')?.action, 'SCMP_ACT_ALLOW', 'runc looks whether /proc is what it seems');
    const { action, errnoRet } = answerTo('clone3') ?? {};
    assert.deepEqual([action, errnoRet], ['SCMP_ACT_ERRNO', ENOSYS], 'else libc does not fall back to clone');
  });

  test('what it does not name cannot be done', async () => {
    for (const command of [
      ['unshare', '--net', 'true'],
      ['mount', '-t', 'tmpfs', 'none', cluster.folder],
    ]) {
      const { status } = await runCommand(filter, command, { allowFailure: true });
      assert.notEqual(status, 0, command.join(' '));
    }
    assert.equal((await runCommand(filter, ['true'])).status, 0);
  });

  test('traffic, with iptables, and flannelctl under the same profile', async () => {
    const daemon = await assertWorks(['--ip-masq']);
    const ctl = (...command: string[]) =>
      one.namespace.exec(filter, [FLANNELCTL, ...command, '--socket', daemon.controlSocket]);
    for (const command of ['status', 'leases', 'drops']) await ctl(command);
    await ctl('probe', other.pods[0].address);
    const file = join(one.folder, 'seen.pcapng');
    for (const command of [['trace'], ['capture', '-w', file]]) {
      let seen = false;
      const watching = ctl(...command, 'icmp', '--count', '3').finally(() => (seen = true));
      do await ping(one.pods[0].namespace, other.pods[0].address);
      while (!seen);
      await watching;
    }
    assert.ok((await stat(file)).size > 0);
    await assertStops(daemon);
  });

  test('traffic, with nftables', async () => {
    await assertStops(await assertWorks(['--ip-masq'], { EnableNFTables: true }));
  });

  test('traffic, without offloads', async () => {
    await assertStops(await assertWorks(['--ip-masq', '--disable-offload=all', '--ip-blackhole-route']));
  });

  test('traffic, with TLS to etcd', async () => {
    await secureStore.put(`${PREFIX}/config`, JSON.stringify({ Network: NETWORK }));
    for (const { key, value } of await cluster.storedLeases()) await secureStore.put(key, value);
    const [authority, certificate, key] = ['ca.pem', 'client.pem', 'client-key.pem'].map((file) =>
      join(cluster.folder, file),
    );
    const daemon = await assertWorks([
      `--etcd-endpoints=https://${ETCD_ADDRESS}:${TLS_PORT}`,
      ...[`--etcd-cafile=${authority}`, `--etcd-certfile=${certificate}`, `--etcd-keyfile=${key}`],
    ]);
    assert.ok((await daemon.status()).store.healthy);
    await assertStops(daemon);
  });

  test('traffic, with several workers', async () => {
    await one.namespace.ip('link delete flannel0');
    const daemon = await assertWorks(['--ip-masq', '--workers=2']);
    const offloads = (await daemon.status()).backend?.offloads ?? [];
    assert.equal(offloads.find(({ name }) => name === 'tun-multi-queue')?.state, 'on');
    await assertStops(daemon);
    await one.namespace.ip('link delete flannel0');
  });

  test('traffic, a takeover and a restart with the descriptor store, as a user of its own', async () => {
    await rm(run, { recursive: true, force: true });
    const flags = ['--ip-masq', '--user=nobody'];
    await assertWorks(flags);
    const programs = await compileRestartPrograms(cluster.folder);
    const assertNoLoss = ({ there, back, tcp }: TrafficAccount, log: string): void => {
      assert.deepEqual([there.lost, there.outOfOrder, back.lost, back.outOfOrder, tcp.intact], [0, 0, 0, 0, true], log);
    };
    const account = await underTraffic(cluster, programs, () => takeOver(one, [...files, ...flags], { program }));
    assertNoLoss(account, one.running.evidence);
    const rights = threadRights(one.running.pid);
    assert.ok(rights.every(({ uids, filtered }) => filtered && uids.every((uid) => uid !== 0)));
    const service = { daemon: program, folder: run, flags: ['--healthz-port=8080', ...flags] };
    await underServiceManager(
      cluster,
      programs,
      async (manager) => {
        assert.equal(await manager.tell('store', /^store/), 'store tun-0 udp-0', manager.log);
        assertNoLoss(await underTraffic(cluster, programs, () => manager.untilReady('restart')), manager.log);
        assert.match(manager.log, /packets that waited since the last run go on/);
      },
      service,
    );
  });
});
