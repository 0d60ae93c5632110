/** An agent in a sandbox: a seccomp filter denies system calls, and packets flow without what needs them. */
import assert from 'node:assert/strict';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Cluster, type ClusterNode } from '../../harness/cluster.js';
import { compileHarness, noCompiler } from '../../harness/compile.js';
import { FLANNELD } from '../../harness/daemon.js';
import { assertTrafficArrives, untilReached } from '../../harness/pod-traffic.js';

/** What is denied, and what the status then says of which offload. */
interface Denial {
  readonly denied: readonly string[];
  readonly off: Readonly<Record<string, RegExp>>;
}

const NOT_PERMITTED = /^the kernel refuses it .*operation not permitted \(EPERM\)$/;
const NOT_IMPLEMENTED = /^the kernel refuses it .*function not implemented \(ENOSYS\)$/;

const DENIALS: readonly Denial[] = [
  {
    denied: ['sendmmsg=EPERM', 'recvmmsg=ENOSYS'],
    off: { sendmmsg: NOT_PERMITTED, recvmmsg: NOT_IMPLEMENTED },
  },
  {
    denied: ['setsockopt-UDP_SEGMENT=EPERM', 'setsockopt-UDP_GRO=EPERM'],
    off: { 'udp-segment': NOT_PERMITTED, 'udp-gro': NOT_PERMITTED },
  },
  {
    denied: ['setsockopt-UDP_SEGMENT=ENOSYS', 'setsockopt-UDP_GRO=ENOSYS', 'sendmmsg=ENOSYS', 'recvmmsg=EPERM'],
    off: {
      'udp-segment': NOT_IMPLEMENTED,
      'udp-gro': NOT_IMPLEMENTED,
      sendmmsg: NOT_IMPLEMENTED,
      recvmmsg: NOT_PERMITTED,
    },
  },
  {
    denied: ['ioctl-TUNSETOFFLOAD=EPERM'],
    off: { 'tun-tso': NOT_PERMITTED, 'tun-uso': NOT_PERMITTED },
  },
  {
    denied: ['ioctl-TUNSETVNETHDRSZ=EPERM'],
    off: { 'tun-vnet': /virtio headers/, 'tun-tso': /needs tun-vnet/, 'tun-uso': /needs tun-vnet/ },
  },
  {
    denied: [
      ...['ioctl-TUNSETVNETHDRSZ=EPERM', 'ioctl-TUNSETOFFLOAD=EPERM'],
      ...['setsockopt-UDP_SEGMENT=EPERM', 'setsockopt-UDP_GRO=EPERM', 'sendmmsg=EPERM', 'recvmmsg=EPERM'],
    ],
    off: {
      'tun-vnet': /virtio headers/,
      'tun-tso': /needs tun-vnet/,
      'tun-uso': /needs tun-vnet/,
      'udp-segment': NOT_PERMITTED,
      'udp-gro': NOT_PERMITTED,
      sendmmsg: NOT_PERMITTED,
      recvmmsg: NOT_PERMITTED,
    },
  },
];

describe('an agent to which system calls are denied', { skip: noCompiler }, () => {
  let cluster: Cluster;
  let sandboxed: ClusterNode, free: ClusterNode;
  let denier: string;
  /** What the kernel of this machine has not, whatever is denied. */
  let missing: readonly string[];

  before(async () => {
    cluster = await Cluster.create('denied', { nodes: 2 });
    [sandboxed, free] = cluster.nodes;
    denier = await compileHarness('deny_calls.cc', cluster.folder);
    await cluster.startAll();
    missing = await offloadsOff(sandboxed);
    await sandboxed.running.stop();
  });
  after(() => cluster?.dispose());

  for (const [index, { denied, off }] of DENIALS.entries()) {
    test(`${denied.join(', ')}: it says what it goes without, and carries packets`, async () => {
      const program = join(cluster.folder, `sandboxed-${index}`);
      await writeFile(program, `#!/bin/sh\nexec '${denier}' ${denied.join(' ')} -- '${FLANNELD}' "$@"\n`);
      await chmod(program, 0o755);
      // A device from a run with all calls keeps what that run switched on, and is not to be held against this one.
      await sandboxed.start();
      await sandboxed.running.stop();
      const daemon = await sandboxed.start([`--control-socket=${join(sandboxed.folder, 'flanneld.sock')}`], {
        program,
      });
      const { backend } = await daemon.status();
      for (const { name, state, reason = '' } of backend?.offloads ?? []) {
        if (name in off) assert.match(reason, off[name], name);
        assert.equal(state, name in off || missing.includes(name) ? 'off' : 'on', name);
      }
      await untilReached(sandboxed.pods[0], free.pods[0]);
      await assertTrafficArrives(sandboxed.pods[0], free.pods[0]);
      for (const { name, stepDowns } of (await daemon.status()).backend?.offloads ?? []) {
        assert.equal(stepDowns, 0, name);
      }
      assert.equal((await daemon.stop()).status, 0, daemon.evidence);
    });
  }

  async function offloadsOff(node: ClusterNode): Promise<string[]> {
    const { backend } = await node.running.status();
    assert.ok(backend);
    return backend.offloads.filter(({ state }) => state === 'off').map(({ name }) => name);
  }
});
