/** An agent that may make only the system calls that deploy/seccomp.json names, with all that it does. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { runCommand } from '../../../src/host/command.js';
import { Cluster, NETWORK, type ClusterNode } from '../../harness/cluster.js';
import { compileHarness, noCompiler } from '../../harness/compile.js';
import { FLANNELCTL, FLANNELD, ROOT } from '../../harness/daemon.js';
import { assertTrafficArrives, untilReached } from '../../harness/pod-traffic.js';
import { threadRights } from '../../harness/process-status.js';

/** What is used here of the Linux part of the OCI runtime specification. */
interface SeccompProfile {
  readonly defaultAction: string;
  readonly defaultErrnoRet: number;
  readonly syscalls: readonly {
    readonly names: readonly string[];
    readonly action: string;
    readonly args?: readonly { index: number; value: number; valueTwo: number; op: string }[];
  }[];
}

const ENOSYS = 38;

const profile = JSON.parse(readFileSync(join(ROOT, 'deploy/seccomp.json'), 'utf8')) as SeccompProfile;

/** The profile as the initialisers of `allow_calls.cc`; calls that this architecture has not are left out. */
function rulesOf({ defaultAction, defaultErrnoRet, syscalls }: SeccompProfile): string {
  assert.deepEqual([defaultAction, defaultErrnoRet], ['SCMP_ACT_ERRNO', ENOSYS]);
  const lines = syscalls.flatMap(({ names, action, args = [] }) => {
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

describe('an agent under the seccomp profile', { skip: noCompiler }, () => {
  let cluster: Cluster;
  let one: ClusterNode, other: ClusterNode;
  let filter: string, program: string;

  before(async () => {
    cluster = await Cluster.create('profile', { nodes: 2 });
    [one, other] = cluster.nodes;
    await writeFile(join(cluster.folder, 'allowed_calls.inc'), rulesOf(profile));
    filter = await compileHarness('allow_calls.cc', cluster.folder, ['-I', cluster.folder]);
    program = join(cluster.folder, 'filtered');
    await writeFile(program, `#!/bin/sh\nexec '${filter}' '${FLANNELD}' "$@"\n`);
    await chmod(program, 0o755);
    await other.start(['--ip-masq']);
    await other.addPod();
  });
  after(() => cluster?.dispose());

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

  for (const [tool, config, flags] of [
    ['iptables', { Network: NETWORK }, []],
    ['nftables, with several workers', { Network: NETWORK, EnableNFTables: true }, ['--workers=2']],
    ['no offloads', { Network: NETWORK }, ['--disable-offload=all', '--ip-blackhole-route']],
  ] as const) {
    test(`${tool}: all works as without it`, async () => {
      await cluster.putConfig(config);
      const socket = `--control-socket=${join(one.folder, 'flanneld.sock')}`;
      const daemon = await one.start(['--ip-masq', '--healthz-port=8080', socket, ...flags], { program });
      if (one.pods.length === 0) await one.addPod();
      await untilReached(one.pods[0], other.pods[0]);
      await assertTrafficArrives(one.pods[0], other.pods[0]);
      assert.ok(threadRights(daemon.pid).every(({ filtered }) => filtered));
      for (const command of ['status', 'leases', 'drops']) {
        await one.namespace.exec(FLANNELCTL, [command, '--socket', daemon.controlSocket]);
      }
      const { backend } = await daemon.status();
      const off = backend?.offloads.filter(({ reason = '' }) => /refuses/.test(reason)) ?? [];
      assert.deepEqual(off, []);
      assert.doesNotMatch(daemon.output, / (WARN|ERROR) /);
      assert.equal((await daemon.stop()).status, 0);
    });
  }
});
