/**
 * Cutting, completing and merging beside the kernel's own: the program next to this writes packets with virtio headers
 * into one device, lets the kernel forward them, and reads from another, which has no offloads, what the kernel made of
 * them.
 *
 *   namespace
 *   in0 10.1.0.0/16 ══ forwards ══ out0 10.2.0.0/16
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runCommand } from '../../../src/host/command.js';
import { namePrefix, temporaryFolder } from '../../harness/leftovers.js';
import { withNamespaces } from '../../harness/namespaces.js';

const root = fileURLToPath(new URL('../../../../', import.meta.url));
/** For a machine that has much else to do. */
const TIMEOUT_MS = 300_000;

const skip =
  process.getuid?.() !== 0
    ? 'needs root for namespaces and TUN devices'
    : spawnSync('c++', ['--version']).status !== 0 && 'needs a C++ compiler';

test('packets are cut, completed and merged as by the kernel, byte for byte', { skip }, async (context) => {
  const folder = await temporaryFolder('segmentation');
  context.after(() => rm(folder, { recursive: true, force: true }));
  const program = join(folder, 'kernel_segmentation');
  const sources = ['checksum', 'inner', 'segment', 'coalesce'].map((name) => join(root, 'native', `${name}.cc`));
  await runCommand(
    'c++',
    [
      ...['-std=c++17', '-g', '-O1', '-Wall', '-Wextra', '-Werror', `-I${join(root, 'native')}`],
      ...[join(root, 'test/integration/dataplane/kernel_segmentation.cc'), ...sources, '-o', program],
    ],
    { timeoutMs: TIMEOUT_MS },
  );
  await withNamespaces(namePrefix('segmentation'), ['router'], async ({ router }) => {
    await router.setSysctl('net.ipv6.conf.default.disable_ipv6', 1);
    await router.setSysctl('net.ipv4.ip_forward', 1);
    await router.setSysctl('net.ipv4.conf.all.rp_filter', 0);
    await router.setSysctl('net.ipv4.conf.default.rp_filter', 0);
    await router.ip('tuntap add in0 mode tun vnet_hdr');
    await router.ip('tuntap add out0 mode tun');
    // No packet is too long, and all segments of one fit into the queue.
    await router.ip('link set in0 mtu 65535 up');
    await router.ip('link set out0 mtu 65535 txqueuelen 1000 up');
    await router.addRoute('10.1.0.0/16', 'dev in0');
    await router.addRoute('10.2.0.0/16', 'dev out0');
    const { status, stdout, stderr } = await router.exec(program, [folder], {
      allowFailure: true,
      timeoutMs: TIMEOUT_MS,
    });
    assert.equal(status, 0, stderr + stdout);
    assert.match(stdout, /all passed/);
    context.diagnostic(stdout.trim().replaceAll('\n', ', '));
  });
});
