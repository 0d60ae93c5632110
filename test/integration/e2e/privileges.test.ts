/** What the daemon may, held against every thread of it while it carries packets. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmod, chown, link, lstat, mkdir, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { CAPABILITIES, type Capability } from '../../../src/flanneld/capabilities.js';
import { giveFolder } from '../../../src/flanneld/give-folder.js';
import { runCommand, type CommandResult } from '../../../src/host/command.js';
import { Cluster, type ClusterNode } from '../../harness/cluster.js';
import { type Daemon, FLANNELCTL, FLANNELD } from '../../harness/daemon.js';
import { assertTrafficArrives, untilReached } from '../../harness/pod-traffic.js';
import { privateView } from '../../harness/private-view.js';
import { threadRights } from '../../harness/process-status.js';

const NOBODY = 'nobody';
const NETWORKING: readonly Capability[] = ['NET_BIND_SERVICE', 'NET_ADMIN', 'NET_RAW'];

const bits = (names: readonly Capability[]): bigint =>
  names.reduce((sum, name) => sum | (1n << BigInt(CAPABILITIES[name])), 0n);

const idOf = async (flag: '-u' | '-g', user: string): Promise<number> =>
  Number((await runCommand('id', [flag, user])).stdout);

describe('the privileges of the daemon', { skip: process.getuid?.() !== 0 && 'needs root' }, () => {
  let cluster: Cluster;
  let one: ClusterNode, other: ClusterNode;
  let nobody: { readonly uid: number; readonly gid: number };
  /** Starts the daemon where only root may open the TUN, from a checkout that everybody may read. */
  let program: string;

  before(async () => {
    cluster = await Cluster.create('rights', { nodes: 2 });
    [one, other] = cluster.nodes;
    nobody = { uid: await idOf('-u', NOBODY), gid: await idOf('-g', NOBODY) };
    await chmod(cluster.folder, 0o755);
    program = await privateView(cluster.folder);
    await cluster.startAll(['--ip-masq']);
    await untilReached(one.pods[0], other.pods[0]);
  });
  after(() => cluster?.dispose());

  /** Every thread of it, seen again and again while `work` goes on. */
  async function throughout(daemon: Daemon, check: (daemon: Daemon) => void, work: Promise<void>): Promise<void> {
    let done = false;
    const finished = work.finally(() => (done = true));
    do {
      check(daemon);
      await new Promise((resolve) => setTimeout(resolve, 50));
    } while (!done);
    await finished;
  }

  function assertRights(daemon: Daemon, user: { uid: number; gid: number }, capabilities: readonly Capability[]): void {
    const threads = threadRights(daemon.pid);
    // Main thread, V8's and libuv's, and two workers.
    assert.ok(threads.length > 4, `${threads.length} threads`);
    const expected = bits(capabilities);
    for (const { name, uids, gids, noNewPrivileges, ...sets } of threads) {
      assert.deepEqual(uids, Array(4).fill(user.uid), name);
      assert.deepEqual(gids, Array(4).fill(user.gid), name);
      assert.ok(noNewPrivileges, name);
      for (const set of ['permitted', 'effective', 'inheritable', 'bounding', 'ambient'] as const) {
        assert.equal(sets[set].toString(16), expected.toString(16), `${name}: ${set}`);
      }
    }
  }

  const asNobody = (node: ClusterNode): string[] => [
    `--user=${NOBODY}`,
    `--subnet-file=${join(node.folder, 'run/subnet.env')}`,
    `--control-socket=${join(node.folder, 'run/flanneld.sock')}`,
  ];

  async function ask(daemon: Daemon, user: readonly string[]): Promise<CommandResult> {
    const asking = [...user, FLANNELCTL, 'status', '--socket', daemon.controlSocket];
    return runCommand('setpriv', asking, { allowFailure: true });
  }

  test('root keeps the capabilities for networking, and no others', async () => {
    const root = { uid: 0, gid: 0 };
    await throughout(
      one.running,
      (daemon) => assertRights(daemon, root, NETWORKING),
      assertTrafficArrives(one.pods[0], other.pods[0]),
    );
  });

  test('with --user it is that user in every thread, and does all that it did as root', async () => {
    await one.running.stop();
    const daemon = await one.start(['--ip-masq', ...asNobody(one)], { program });
    await throughout(
      daemon,
      () => assertRights(daemon, nobody, NETWORKING),
      assertTrafficArrives(one.pods[0], other.pods[0]),
    );
    assert.doesNotMatch(daemon.output, / (WARN|ERROR) /);
    const rules = (await one.namespace.exec('iptables-save', [])).stdout;
    assert.match(rules, /^-A POSTROUTING .*FLANNEL-POSTRTG$/m);
    assert.match(rules, /^-A FLANNEL-POSTRTG .* MASQUERADE/m);
    for (const file of [daemon.subnetFile, daemon.controlSocket]) assert.equal((await stat(file)).uid, nobody.uid);
    // What it makes anew while it runs: rules that somebody removes, a device that somebody takes down.
    await one.namespace.exec('iptables', ['-t', 'nat', '-F', 'FLANNEL-POSTRTG']);
    await daemon.saying(/firewall rules were missing or changed: put back/, 60_000);
    await one.namespace.ip('link set flannel0 down');
    await untilReached(one.pods[0], other.pods[0]);
  });

  test('the control socket answers root and the daemon, and turns others away even where its mode lets them', async () => {
    const daemon = one.running;
    assert.equal((await stat(daemon.controlSocket)).mode & 0o777, 0o600);
    assert.equal((await ask(daemon, [])).status, 0);
    assert.equal((await ask(daemon, ['--reuid=nobody', '--regid=nogroup', '--clear-groups'])).status, 0);
    await chmod(daemon.controlSocket, 0o666);
    const stranger = await ask(daemon, ['--reuid=1234', '--regid=1234', '--clear-groups']);
    assert.notEqual(stranger.status, 0);
    assert.match(stranger.stderr, /uid 1234 may not ask this daemon/);
    assert.equal((await one.running.stop()).status, 0);
  });

  test('--control-group lets the members of a group ask, and nobody else', async () => {
    const daemon = await one.start([...asNobody(one), '--control-group=daemon'], { program });
    const { mode, gid } = await stat(daemon.controlSocket);
    assert.equal(mode & 0o777, 0o660);
    assert.equal(gid, await idOf('-g', 'daemon'));
    const member = ['--reuid=1234', '--regid=1234', '--groups=daemon'];
    assert.equal((await ask(daemon, member)).status, 0);
    assert.notEqual((await ask(daemon, ['--reuid=1234', '--regid=1234', '--clear-groups'])).status, 0);
    await daemon.stop();
  });

  test('several workers keep CAP_BPF besides, with which flows stay on their queues', async () => {
    await one.namespace.ip('link delete flannel0');
    const daemon = await one.start([...asNobody(one), '--workers=2'], { program });
    assertRights(daemon, nobody, [...NETWORKING, 'BPF']);
    const offloads = (await daemon.status()).backend?.offloads ?? [];
    assert.equal(offloads.find(({ name }) => name === 'tun-multi-queue')?.state, 'on');
    await untilReached(one.pods[0], other.pods[0]);
    await daemon.stop();
    await one.namespace.ip('link delete flannel0');
  });

  test('root that may not read a key without CAP_DAC_OVERRIDE keeps it', async () => {
    const folder = join(one.folder, 'keys');
    await mkdir(folder);
    await writeFile(join(folder, 'password'), 'unused\n', { mode: 0o600 });
    await chown(join(folder, 'password'), 1234, 1234);
    const daemon = await one.start(['--etcd-username=somebody', `--etcd-password-file=${join(folder, 'password')}`]);
    assertRights(daemon, { uid: 0, gid: 0 }, [...NETWORKING, 'DAC_OVERRIDE']);
    await daemon.stop();
  });

  test('--user is given what flanneld has left in /run/flannel, and no file of others by a link', async () => {
    const own = join(one.folder, 'own');
    const foreign = join(one.folder, 'foreign');
    await mkdir(own);
    const strange = ['subnet.env.snapshot', 'flanneld.sock.handover'];
    for (const name of [foreign, join(own, 'subnet.env'), join(own, 'other')])
      await writeFile(name, '', { mode: 0o600 });
    await link(foreign, join(own, strange[0]));
    await symlink(foreign, join(own, strange[1]));
    const elsewhere = join(cluster.folder, 'flanneld-in-run');
    const steps = [
      'mount -t tmpfs tmpfs /run',
      'mkdir /run/flannel',
      `mount --bind '${own}' /run/flannel`,
      `exec '${program}' "$@" --subnet-file=/run/flannel/subnet.env --control-socket=/run/flannel/flanneld.sock`,
    ];
    await writeFile(elsewhere, `#!/bin/sh\nset -e\n${steps.join('\n')}\n`, { mode: 0o755 });
    const daemon = one.launch([`--user=${NOBODY}`], { program: elsewhere });
    await daemon.saying(/ INFO ready /);
    for (const name of [own, join(own, 'subnet.env')]) assert.equal((await stat(name)).uid, nobody.uid, name);
    for (const name of [foreign, join(own, 'other')]) assert.equal((await stat(name)).uid, 0, name);
    const why = ['has other names', 'is a symbolic link'];
    strange.forEach((name, index) => {
      const lines = daemon.said(new RegExp(` WARN /run/flannel/${name} is not given .*${why[index]}`));
      assert.equal(lines.length, 1, daemon.evidence);
    });
    await daemon.stop();
  });

  test('of a folder that is given away the known files and sockets go with it, and nothing else', async () => {
    const folder = join(one.folder, 'given');
    await mkdir(folder);
    for (const name of ['file', 'unknown', 'linked']) await writeFile(join(folder, name), '');
    await link(join(folder, 'linked'), join(folder, 'again'));
    await symlink('unknown', join(folder, 'symlink'));
    await runCommand('mkfifo', [join(folder, 'fifo')]);
    const server = createServer().listen(join(folder, 'socket'));
    await once(server, 'listening');
    try {
      const left = giveFolder(folder, ['file', 'linked', 'symlink', 'fifo', 'socket', 'missing'], nobody);
      assert.deepEqual(
        left.map((line) => /given\/(\w+) is not given/.exec(line)?.[1]),
        ['linked', 'symlink', 'fifo'],
      );
      const given = ['.', 'file', 'socket'];
      for (const name of ['.', 'file', 'unknown', 'linked', 'again', 'symlink', 'fifo', 'socket']) {
        const { uid, gid } = await lstat(join(folder, name));
        assert.deepEqual({ uid, gid }, given.includes(name) ? nobody : { uid: 0, gid: 0 }, name);
      }
      await symlink(folder, join(one.folder, 'leads-there'));
      assert.throws(() => giveFolder(join(one.folder, 'leads-there'), [], nobody), /ENOTDIR|ELOOP/);
    } finally {
      server.close();
    }
  });

  test('what stands in the way of --user is one line', async () => {
    const closed = join(one.folder, 'closed');
    await mkdir(closed, { mode: 0o700 });
    await writeFile(join(closed, 'password'), 'secret\n');
    const obstacles: readonly (readonly [flags: readonly string[], says: RegExp])[] = [
      [['--user=not-there'], /--user: there is no user "not-there"/],
      [['--control-group=not-there'], /--control-group: there is no group "not-there"/],
      [[...asNobody(one), `--subnet-file=${closed}/subnet.env`], /may not write to .*closed: .*chown nobody/],
      [
        [...asNobody(one), '--etcd-username=x', `--etcd-password-file=${closed}/password`],
        /may not read .*closed\/password: let that user pass through .*closed, .*chmod o\+x/,
      ],
    ];
    for (const [flags, says] of obstacles) {
      const { status, stderr } = await runCommand(FLANNELD, flags, { allowFailure: true });
      assert.ok(status === 1 || status === 2, stderr);
      assert.match(stderr, says);
      assert.equal(stderr.trim().split('\n').length, 1, stderr);
    }
  });
});
