import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DOCKER_PROGRAMS, findProgram } from '../../../src/lab/requirements.js';
import { labFolder } from '../../../src/lab/state.js';
import { labCommand, labName, labStatus, remainsOf, sweepLabs } from '../../support/labs.js';

const missing = DOCKER_PROGRAMS.filter((program) => findProgram(program) === undefined);
const skip = missing.length > 0 && `${missing.join(', ')} not installed: node bin/setup --for tests`;

describe('two nodes with a Docker engine each', { skip }, () => {
  const name = labName('docker');

  before(async () => {
    await sweepLabs();
    const up = await labCommand('up', '--name', name, '--nodes', '2', '--runtime', 'docker');
    assert.equal(up.status, 0, up.stderr);
  });
  after(sweepLabs);

  test('the engines run with what docker-opts made of subnet.env', async () => {
    assert.equal((await labStatus(name)).healthy, true);
    for (const [node, gateway] of [
      ['node1', '10.244.0.1'],
      ['node2', '10.244.1.1'],
    ]) {
      const options = readFileSync(join(labFolder(name), node, 'docker_opts.env'), 'utf8');
      assert.match(options, new RegExp(`--bip=${gateway}/24 --ip-masq=false --mtu=1472`));
      const bridge = await labCommand('exec', '--name', name, node, '--', 'ip', '-brief', 'address', 'show', 'docker0');
      assert.match(bridge.stdout, new RegExp(`${gateway}/24`));
      const driver = await labCommand('exec', '--name', name, node, '--', 'docker', 'info', '--format', '{{.Driver}}');
      assert.equal(driver.stdout, 'vfs\n');
    }
  });

  test('containers ping containers beside them, on the other node, and the outside', async () => {
    for (const [from, to] of [
      ['pod1a', 'pod1b'],
      ['pod1a', 'pod2a'],
      ['pod2b', 'pod1b'],
      ['pod2a', 'outside'],
    ]) {
      const { status, stdout, stderr } = await labCommand(
        'exec',
        '--name',
        name,
        from,
        '--',
        'ping',
        '-c',
        '2',
        '-W',
        '5',
        to,
      );
      assert.equal(status, 0, `${from} to ${to}: ${stdout}${stderr}`);
      assert.match(stdout, /2 packets transmitted, 2 packets received/);
    }
  });

  test("a container's interface has the overlay's MTU", async () => {
    const { stdout } = await labCommand('exec', '--name', name, 'pod1a', '--', 'ip', 'link', 'show', 'eth0');
    assert.match(stdout, / mtu 1472 /);
  });

  test('TCP between containers arrives whole', async () => {
    // A busybox nc whose input ends tells its peer to stop, so the receiver's is kept open.
    const script = 'mkfifo /tmp/open && nc -l -p 5000 <> /tmp/open > /tmp/got; wc -c < /tmp/got';
    const receiver = labCommand('exec', '--name', name, 'pod2a', '--', 'sh', '-c', script);
    const send =
      'for i in 1 2 3 4 5 6 7 8 9 10; do head -c 3000000 /dev/zero | nc -w 5 pod2a 5000 && exit 0; sleep 1; done; exit 1';
    const sender = await labCommand('exec', '--name', name, 'pod1a', '--', 'sh', '-c', send);
    assert.equal(sender.status, 0, sender.stderr);
    assert.equal((await receiver).stdout.trim(), '3000000');
  });

  test('down leaves no engine, container, control group or file', async () => {
    const down = await labCommand('down', '--name', name);
    assert.equal(down.status, 0, down.stderr);
    assert.deepEqual(await remainsOf(name), []);
    const groups = readdirSync('/sys/fs/cgroup', { withFileTypes: true }).flatMap((entry) =>
      entry.isDirectory() ? readdirSync(join('/sys/fs/cgroup', entry.name)) : [entry.name],
    );
    assert.deepEqual(
      groups.filter((group) => group.includes(name)),
      [],
    );
    assert.ok(!readFileSync('/proc/self/mountinfo', 'utf8').includes(labFolder(name)));
  });
});
