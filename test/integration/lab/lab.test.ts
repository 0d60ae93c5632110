import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { runCommand } from '../../../src/host/command.js';
import { FAULT_NAMES, type ActiveFault } from '../../../src/lab/faults.js';
import type { StatusAnswer } from '../../../src/observe/control-protocol.js';
import {
  labCommand,
  labName,
  labStatus,
  outcomeOf,
  remainsOf,
  startLabCommand,
  sweepLabs,
} from '../../support/labs.js';
import { until } from '../../harness/until.js';

/** Addresses and routes of the namespace that the tests themselves run in. */
async function machineNetwork(): Promise<string> {
  const shown = await Promise.all([runCommand('ip', ['-brief', 'address']), runCommand('ip', ['route'])]);
  return shown.map(({ stdout }) => stdout).join('\n');
}

before(sweepLabs);
after(sweepLabs);

describe('a lab of two nodes', () => {
  const name = labName('two');
  let machineBefore: string;

  before(async () => {
    machineBefore = await machineNetwork();
    const { status, stdout, stderr } = await labCommand('up', '--name', name, '--nodes', '2', '--pods', '1');
    assert.equal(status, 0, stderr);
    assert.match(stdout, /pod1a 10\.244\.0\.2/);
    assert.match(stderr, /pods reach each other across nodes/);
  });

  test('status tells its machines and that all of them run', async () => {
    const status = await labStatus(name);
    assert.equal(status.healthy, true);
    assert.equal(status.phase, 'up');
    assert.deepEqual(
      status.nodes.map((node) => [node.name, node.subnet, node.flanneld.running, node.pods.map((pod) => pod.address)]),
      [
        ['node1', '10.244.0.0/24', true, ['10.244.0.2']],
        ['node2', '10.244.1.0/24', true, ['10.244.1.2']],
      ],
    );
    const shown = await labCommand('status', '--name', name);
    assert.match(shown.stdout, new RegExp(`^lab +${name}, up$`, 'm'));
    assert.match(
      (await labCommand('list')).stdout,
      new RegExp(`^${name} +up +2 +10\\.244\\.0\\.0/16 +udp +netns$`, 'm'),
    );
  });

  test('names resolve inside: a pod pings a pod on the other node, and the outside', async () => {
    for (const to of ['pod2a', 'outside', 'node2']) {
      const { status, stdout, stderr } = await labCommand(
        'exec',
        '--name',
        name,
        'pod1a',
        '--',
        'ping',
        '-c',
        '1',
        '-W',
        '5',
        to,
      );
      assert.equal(status, 0, `${to}: ${stderr}`);
      assert.match(stdout, new RegExp(`^PING ${to} `));
    }
  });

  test('the outside knows no way to the pods', async () => {
    const { status } = await labCommand(
      'exec',
      '--name',
      name,
      'outside',
      '--',
      'ping',
      '-c',
      '1',
      '-W',
      '1',
      '10.244.0.2',
    );
    assert.notEqual(status, 0);
  });

  test('exec passes on exit status and standard error, and refuses places that are not there', async () => {
    const failed = await labCommand('exec', '--name', name, 'node1', '--', 'sh', '-c', 'echo oh >&2; exit 7');
    assert.deepEqual(failed, { status: 7, stdout: '', stderr: 'oh\n' });
    const nowhere = await labCommand('exec', '--name', name, 'pod9z', '--', 'true');
    assert.equal(nowhere.status, 1);
    assert.match(nowhere.stderr, /^flannelctl: lab ".+" has no "pod9z": try one of node1, pod1a, [^\n]+\n$/);
  });

  test('status tells the faults that are there, by whatever hand, and no more once they are healed', async () => {
    const faults = async (): Promise<string[]> => {
      const { stdout } = await labCommand('status', '--name', name, '--json');
      const found = (JSON.parse(stdout) as { faults: ActiveFault[] }).faults;
      return found.map(({ fault, node, peer }) => [fault, node, ...(peer === null ? [] : [peer])].join(' '));
    };
    assert.deepEqual(await faults(), []);
    // A lease is stolen in doctor.test.ts, where the node has the time to notice.
    for (const fault of FAULT_NAMES.filter((one) => one !== 'stolen-lease')) {
      const peer = fault === 'firewall' ? ['--peer', 'node1'] : [];
      const { status, stderr } = await labCommand('break', '--name', name, fault, '--node', 'node2', ...peer);
      assert.equal(status, 0, stderr);
    }
    // Where reverse path filters are strict by default, that fault is none.
    const setting = ['sysctl', '-n', 'net.ipv4.conf.default.rp_filter'];
    const preset = (await labCommand('exec', '--name', name, 'node2', '--', ...setting)).stdout.trim();
    const strict = preset === '1' ? [] : ['rp-filter node2'];
    const expected = ['mtu node2', 'firewall node2 node1', 'node-down node2', ...strict, 'limit node2'];
    assert.deepEqual(await faults(), expected);
    const { stdout } = await labCommand('status', '--name', name);
    assert.match(stdout, /^fault +firewall: UDP 8285 between node2 and node1 is dropped on the underlay$/m);
    const cable = ['exec', '--name', name, 'underlay', '--', 'ip', 'link', 'set', 'node2'];
    await labCommand(...cable, 'up');
    assert.deepEqual(
      await faults(),
      expected.filter((one) => !one.startsWith('node-down')),
    );
    assert.equal((await labCommand('break', '--name', name, 'firewall', '--node', 'node1')).status, 0);
    assert.ok((await faults()).includes('firewall node1'));
    assert.equal((await labCommand('heal', '--name', name)).status, 0);
    assert.deepEqual(await faults(), []);
  });

  test("flannelctl on a node asks that node's flanneld", async () => {
    for (const [node, subnet] of [
      ['node1', '10.244.0.0/24'],
      ['node2', '10.244.1.0/24'],
    ]) {
      const { stdout, stderr } = await labCommand('exec', '--name', name, node, '--', 'flannelctl', 'status', '--json');
      assert.equal(stderr, '');
      const answer = JSON.parse(stdout) as StatusAnswer;
      assert.equal(answer.state, 'ready');
      assert.equal(answer.lease?.subnet, subnet);
    }
  });

  test('logs show what daemons say', async () => {
    assert.match((await labCommand('logs', '--name', name, 'node1')).stdout, /10\.244\.0\.0\/24/);
    assert.match((await labCommand('logs', '--name', name, 'etcd')).stdout, /etcd/);
    const none = await labCommand('logs', '--name', name, 'pod1a');
    assert.match(none.stderr, /^flannelctl: "pod1a" keeps no log: [^\n]+\n$/);
    const follower = startLabCommand(['logs', '--name', name, '--follow', 'node1']);
    const ended = outcomeOf(follower);
    let said = '';
    follower.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await until('the log is shown', () => said.includes('10.244.0.0/24'));
    follower.kill('SIGTERM');
    assert.ok(said.length <= (await ended).stdout.length);
  });

  test('a second lab lives beside it on the same addresses, and its end leaves the first alone', async () => {
    const second = labName('second');
    const up = await labCommand('up', '--name', second, '--nodes', '2', '--pods', '1', '--json');
    assert.equal(up.status, 0, up.stderr);
    assert.equal((JSON.parse(up.stdout) as { healthy: boolean }).healthy, true);
    for (const lab of [name, second]) {
      assert.equal(
        (await labCommand('exec', '--name', lab, 'pod1a', '--', 'ping', '-c', '1', '-W', '5', 'pod2a')).status,
        0,
      );
    }
    const unsaid = await labCommand('down');
    assert.equal(unsaid.status, 2);
    assert.match(
      unsaid.stderr,
      /^flannelctl: there are several labs: [^\n]+; say which with --name, or --all for every one\n$/,
    );
    assert.equal((await labCommand('down', '--name', second)).status, 0);
    assert.deepEqual(await remainsOf(second), []);
    assert.equal((await labStatus(name)).healthy, true);
    assert.equal(
      (await labCommand('exec', '--name', name, 'pod1a', '--', 'ping', '-c', '1', '-W', '5', 'pod2a')).status,
      0,
    );
  });

  test('its name is taken', async () => {
    const { status, stderr } = await labCommand('up', '--name', name);
    assert.equal(status, 1);
    assert.match(stderr, /^flannelctl: lab "[^\n]+" is up: take it down with "flannelctl lab down [^\n]+\n$/);
    assert.equal((await labStatus(name)).healthy, true);
  });

  test("this machine's own addresses and routes are as they were", async () => {
    assert.equal(await machineNetwork(), machineBefore);
  });

  for (const kill of [false, true]) {
    test(`restart ${kill ? 'after a crash ' : ''}gives another process the same subnet, and pings go on`, async () => {
      const pidOf = async () => (await labStatus(name)).nodes[1].flanneld.pid;
      const earlier = await pidOf();
      const restart = await labCommand('restart', '--name', name, ...(kill ? ['--kill'] : []), 'node2');
      assert.equal(restart.status, 0, restart.stderr);
      assert.notEqual(await pidOf(), earlier);
      const ping = ['ping', '-c', '1', '-W', '5', 'pod2a'];
      assert.equal((await labCommand('exec', '--name', name, 'pod1a', '--', ...ping)).status, 0);
    });
  }

  test('a dead flanneld shows in the status', async () => {
    const { nodes } = await labStatus(name);
    const pid = nodes[0].flanneld.pid;
    assert.ok(pid !== null);
    process.kill(pid, 'SIGKILL');
    await until('the status tells', async () => (await labStatus(name)).nodes[0].flanneld.running === false);
    assert.equal((await labStatus(name)).healthy, false);
    assert.match((await labCommand('list')).stdout, new RegExp(`^${name} +up, not all well`, 'm'));
  });

  test('down leaves nothing, and once more says that there is nothing', async () => {
    const first = await labCommand('down', '--name', name);
    assert.equal(first.status, 0, first.stderr);
    assert.match(first.stdout, /is gone\n$/);
    assert.deepEqual(await remainsOf(name), []);
    const again = await labCommand('down', '--name', name);
    assert.deepEqual({ ...again, stdout: '' }, { status: 0, stdout: '', stderr: '' });
    assert.match(again.stdout, new RegExp(`^there is no lab "${name}"(: there is .+)?\n$`));
    const status = await labCommand('status', '--name', name);
    assert.equal(status.status, 1);
    assert.match(status.stderr, /^flannelctl: there is no lab "[^\n]+\n$/);
  });
});

/** Starts `lab up` and comes back when its first flanneld is being started. */
async function halfBuilt(name: string) {
  const child = startLabCommand(['up', '--name', name, '--nodes', '3', '--pods', '1']);
  const ended = outcomeOf(child);
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  await until('etcd is up', () => said.includes('etcd at') || child.exitCode !== null);
  assert.equal(child.exitCode, null, said);
  return { child, ended };
}

test('a killed up is shown as broken, and down takes away what it left', async () => {
  const name = labName('killed');
  const { child, ended } = await halfBuilt(name);
  child.kill('SIGKILL');
  await ended;
  assert.notDeepEqual(await remainsOf(name), []);
  assert.equal((await labStatus(name)).phase, 'broken');
  const down = await labCommand('down', '--name', name);
  assert.equal(down.status, 0, down.stderr);
  assert.deepEqual(await remainsOf(name), []);
});

test('the next up of a killed one clears the ground by itself', async () => {
  const name = labName('again');
  const { child, ended } = await halfBuilt(name);
  child.kill('SIGKILL');
  await ended;
  const up = await labCommand('up', '--name', name, '--nodes', '2', '--pods', '1');
  assert.equal(up.status, 0, up.stderr);
  assert.match(up.stderr, /taking down what is left of an earlier lab/);
  assert.equal((await labStatus(name)).healthy, true);
  assert.equal((await labCommand('down', '--name', name)).status, 0);
  assert.deepEqual(await remainsOf(name), []);
});

test('down clears namespaces whose lab has lost its files', async () => {
  const name = labName('lost');
  for (const place of ['node1', 'pod1a']) await runCommand('ip', ['netns', 'add', `fl-${name}-${place}`]);
  assert.equal((await labCommand('down', '--name', name)).status, 0);
  assert.deepEqual(await remainsOf(name), []);
});

test('down while up is at work ends that first', async () => {
  const name = labName('race');
  const { ended } = await halfBuilt(name);
  const down = await labCommand('down', '--name', name);
  assert.equal(down.status, 0, down.stderr);
  assert.notEqual((await ended).status, 0);
  assert.deepEqual(await remainsOf(name), []);
});

test('an interrupted up leaves nothing', async () => {
  const name = labName('stop');
  const { child, ended } = await halfBuilt(name);
  child.kill('SIGINT');
  const { status, stderr } = await ended;
  assert.equal(status, 130, stderr);
  assert.match(stderr, /^flannelctl: interrupted: lab "[^\n]+" is taken down$/m);
  assert.deepEqual(await remainsOf(name), []);
});

test('a flanneld that ends is reported in its own words, and nothing is left', async () => {
  const name = labName('fails');
  const up = await labCommand('up', '--name', name, '--nodes', '2', '--flanneld', 'node2=/bin/false');
  assert.equal(up.status, 1);
  assert.match(up.stderr, /^flannelctl: flanneld on node2 ended: it said nothing$/m);
  assert.deepEqual(await remainsOf(name), []);
});

for (const [what, args, pattern] of [
  ['a name that is none', ['up', '--name', 'A/B'], /^flannelctl: --name 'A\/B': expected [^\n]+\n$/],
  [
    'a backend that flanneld does not have',
    ['up', '--backend', 'vxlan'],
    /^flannelctl: --backend 'vxlan': expected udp[^\n]+\n$/,
  ],
  ['a flanneld that is not there', ['up', '--flanneld', 'node1=/nonexistent'], /: there is no such file\n$/],
  ['a count that is no number', ['up', '--nodes', 'many'], /^flannelctl: [^\n]*whole number[^\n]*\n$/],
  ['a demo without a second node', ['demo', '--nodes', '1'], /^flannelctl: the demo needs --nodes 2[^\n]+\n$/],
] as const) {
  test(`refuses ${what} in one line, with exit status 2`, async () => {
    const { status, stderr, stdout } = await labCommand(
      ...args,
      ...((args as readonly string[]).includes('--name') ? [] : ['--name', labName('bad')]),
    );
    assert.equal(status, 2, stderr);
    assert.match(stderr, pattern);
    assert.equal(stdout, '');
    assert.ok(!existsSync(`/var/lib/flannelette/lab-${labName('bad')}`));
  });
}
