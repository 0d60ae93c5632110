import assert from 'node:assert/strict';
import { chmod, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { OWN_FLANNELD } from '../../../src/lab/daemon.js';
import { labCommand, labName, outcomeOf, remainsOf, startLabCommand, sweepLabs } from '../../support/labs.js';
import { findFlannel } from '../../harness/flannel-peer.js';
import { until } from '../../harness/until.js';
import { temporaryFolder } from '../../harness/leftovers.js';

before(sweepLabs);
after(sweepLabs);

test('the demo shows every leg of every trip, exits 0 and leaves nothing', async () => {
  const name = labName('demo');
  const { status, stdout, stderr } = await labCommand('demo', '--name', name);
  assert.equal(status, 0, stdout + stderr);
  const seen = (place: string, device: string, packet: string) =>
    assert.match(stdout, new RegExp(`^ +${place} +${device} +6 +${packet.replaceAll('.', '\\.')}`, 'm'));
  seen('node1', 'cni0', '10.244.0.2 > 10.244.0.3: ICMP echo request');
  for (const node of ['node1', 'node2']) {
    seen(node, 'cni0', '10.244.0.2 > 10.244.1.2: ICMP echo request');
    seen(node, 'flannel0', '10.244.0.2 > 10.244.1.2: ICMP echo request');
    seen(node, 'eth0', '192.168.64.11.8285 > 192.168.64.12.8285: UDP, length 84');
  }
  seen('node1', 'cni0', '10.244.0.2 > 203.0.113.10: ICMP echo request');
  seen('outside', 'eth0', '192.168.64.11 > 203.0.113.10: ICMP echo request');
  assert.match(stdout, /^ +node1 +flannel0 +0 +nothing, as it should be$/m);
  assert.match(stdout, /^ok +all pods → all pods .+ 30 of 30 pairs$/m);
  assert.match(stdout, /^ok +pod1a → pod2a +TCP/m);
  assert.match(stdout, /^State +ready$/m, 'the agent tells its status');
  assert.match(stdout, /^\* +10\.244\.0\.0\/24 +192\.168\.64\.11 /m, 'and its leases');
  assert.ok(!stdout.includes('\x1b'), 'no colours where there is no terminal');
  for (const line of stdout.split('\n')) assert.ok(line.length <= 120, line);
  assert.deepEqual(await remainsOf(name), []);
});

const { program: peer, why: whyNoPeer } = await findFlannel();

test('the demo works with a flannel as the second node', { skip: peer === undefined && whyNoPeer }, async () => {
  const name = labName('mixed');
  const args = ['--name', name, '--nodes', '2', '--flanneld', `node2=${peer}`];
  const { status, stdout, stderr } = await labCommand('demo', ...args);
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, /^ok +all pods → all pods .+ 12 of 12 pairs$/m);
  assert.deepEqual(await remainsOf(name), []);
});

test('a leg that is broken fails the demo, which says which one and leaves nothing', async (t) => {
  const name = labName('broken');
  const folder = await temporaryFolder('broken');
  t.after(() => rm(folder, { recursive: true, force: true }));
  // The datagrams of the overlay reach node2's eth0, and no further.
  const script = join(folder, 'flanneld');
  const lines = [
    '#!/bin/sh',
    'iptables -A INPUT -p udp --dport 8285 -j DROP',
    `exec "${process.execPath}" "${OWN_FLANNELD}" "$@"`,
  ];
  await writeFile(script, `${lines.join('\n')}\n`);
  await chmod(script, 0o755);
  const { status, stdout } = await labCommand('demo', '--name', name, '--nodes', '2', '--flanneld', `node2=${script}`);
  assert.equal(status, 1, stdout);
  assert.match(stdout, /^ok +pod1a → pod1b/m);
  assert.match(stdout, /^FAILED +pod1a → pod2a +pod to pod across nodes/m);
  assert.match(stdout, /^ +node2 +flannel0 +0 +nothing: they should pass here$/m);
  assert.match(stdout, /^ok +pod1a → outside/m);
  assert.deepEqual(await remainsOf(name), []);
});

for (const [what, stop] of [
  ['an interrupt', (child: ReturnType<typeof startLabCommand>) => child.kill('SIGINT')],
  ['a reader that goes away', (child: ReturnType<typeof startLabCommand>) => child.stdout?.destroy()],
] as const) {
  test(`${what} ends the demo, which leaves nothing`, async () => {
    const name = labName('stopped');
    const child = startLabCommand(['demo', '--name', name, '--nodes', '2']);
    const ended = outcomeOf(child);
    let said = '';
    child.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await until('the exercise has begun', () => said.includes('pod1a → pod1b') || child.exitCode !== null);
    stop(child);
    const { status, stderr } = await ended;
    assert.equal(status, 130, stderr);
    assert.deepEqual(await remainsOf(name), []);
  });
}
