import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { CommandError } from '../../../src/host/command.js';
import { Namespace } from '../../../src/lab/namespace.js';
import { namePrefix } from '../../harness/leftovers.js';
import { withNamespaces } from '../../harness/namespaces.js';

test('two namespaces reach each other over a cable with the MTU asked for', async () => {
  await withNamespaces(namePrefix('hns1'), ['a', 'b'], async ({ a, b }) => {
    await a.connect('eth0', b, 'eth0', { mtuBytes: 1400 });
    await a.addAddress('eth0', '192.0.2.1/30');
    await b.addAddress('eth0', '192.0.2.2/30');
    const ping = await a.exec('ping', ['-c', '1', '-W', '2', '192.0.2.2']);
    assert.match(ping.stdout, /1 received/);
    assert.match(await b.ip('link show eth0'), /mtu 1400/);
  });
});

test('a namespace shows its own devices in /sys, and input reaches the program', async () => {
  await withNamespaces(namePrefix('hns2'), ['a'], async ({ a }) => {
    await a.addBridge('br0');
    assert.deepEqual((await a.exec('ls', ['/sys/class/net'])).stdout.split('\n').filter(Boolean).sort(), ['br0', 'lo']);
    assert.equal((await a.exec('cat', [], { input: 'hello' })).stdout, 'hello');
    assert.equal((await a.exec('false', [], { allowFailure: true })).status, 1);
    await assert.rejects(a.exec('ip', ['link', 'show', 'none']), (error) => {
      assert.ok(error instanceof CommandError);
      assert.equal(
        error.message,
        `\`ip netns exec ${a.name} ip link show none\` failed: Device "none" does not exist.`,
      );
      return true;
    });
  });
});

for (const view of ['sysfs', 'cgroups'] as const) {
  test(`signals reach a process spawned with a view of ${view}`, async () => {
    await withNamespaces(namePrefix('hns3'), ['a'], async ({ a }) => {
      const child = a.spawn('sleep', ['1000'], { view });
      while (!(await a.processes()).includes(child.pid ?? 0)) await new Promise((resolve) => setTimeout(resolve, 5));
      const exited = once(child, 'exit');
      child.kill('SIGINT');
      assert.deepEqual(await exited, [null, 'SIGINT']);
    });
  });
}

test('a failing body leaves neither namespace nor processes', async () => {
  let pid = 0;
  let namespace: Namespace | undefined;
  await assert.rejects(
    withNamespaces(namePrefix('hns4'), ['a'], ({ a }) => {
      namespace = a;
      pid = a.spawn('sleep', ['1000']).pid ?? 0;
      assert.ok(pid > 0);
      throw new Error('on purpose');
    }),
    /on purpose/,
  );
  assert.equal(namespace?.exists, false);
  assert.equal(existsSync(`/proc/${pid}`), false);
});

test('a leftover of the same name is removed with its processes', async () => {
  const leftover = await Namespace.create(`${namePrefix('hns5')}-a`);
  const child = leftover.spawn('sleep', ['1000'], { detached: true });
  const exited = once(child, 'exit');
  await leftover.addBridge('br0');
  await withNamespaces(namePrefix('hns5'), ['a'], async ({ a }) => {
    await exited;
    await assert.rejects(a.ip('link show br0'), /does not exist/);
  });
});
