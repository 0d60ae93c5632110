import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Command } from 'commander';
import { processContext } from '../../../src/flannelctl/context.js';
import { buildProgram } from '../../../src/flannelctl/program.js';
import { VERSION } from '../../../src/version.js';
import { daemonAnswering, flannelctl, temporaryFolder } from '../../support/flannelctl.js';

const MAIN = new URL('../../../src/flannelctl/main.js', import.meta.url).pathname;

function allCommands(command: Command): Command[] {
  return command.commands.flatMap((child) => [child, ...allCommands(child)]);
}

/** `flannelctl leases reserve` as the arguments that lead there. */
function path(command: Command): string[] {
  return command.parent === null ? [] : [...path(command.parent), command.name()];
}

test('every command explains itself, with examples that begin with its own name', async () => {
  const commands = allCommands(buildProgram(processContext()));
  assert.ok(commands.length >= 3);
  for (const command of commands) {
    const names = path(command);
    const help = await flannelctl([...names, '--help']);
    assert.equal(help.status, 0, names.join(' '));
    assert.match(help.stdout, new RegExp(`^Usage: flannelctl ${names.join(' ')} `), names.join(' '));
    assert.match(help.stdout, /\nExamples:\n/, names.join(' '));
    assert.ok(help.stdout.includes(`$ flannelctl ${names.join(' ')}`), `example of ${names.join(' ')}`);
    assert.ok(command.summary() !== '' && !command.summary().endsWith('.'), `summary of ${names.join(' ')}`);
    for (const line of help.stdout.split('\n')) assert.ok(line.length <= 120, line);
  }
});

test('the help of the program lists the commands and the exit status', async () => {
  const help = await flannelctl(['--help']);
  assert.equal(help.status, 0);
  for (const name of ['status', 'version', 'docker-opts']) assert.match(help.stdout, new RegExp(`^  ${name}\\b`, 'm'));
  assert.match(help.stdout, /^Exit status: 0 done, 1 it failed, 2 /m);
});

test('help finds a command at any depth', async () => {
  const long = await flannelctl(['leases', 'reserve', '--help']);
  assert.deepEqual(await flannelctl(['help', 'leases', 'reserve']), long);
  assert.equal((await flannelctl(['help'])).stdout, (await flannelctl(['--help'])).stdout);
  assert.deepEqual(await flannelctl(['help', 'leases', 'xyzzy']), await flannelctl(['leases', '--help']));
  const { status, stdout, stderr } = await flannelctl(['help', 'statsu']);
  assert.deepEqual({ status, stdout }, { status: 2, stdout: '' });
  assert.match(stderr, /^flannelctl: unknown command 'statsu'.*status/);
});

test('a bad value is told by the option or argument, the value and what was expected', async () => {
  const cases: [string[], RegExp][] = [
    [
      ['lab', 'up', '--nodes', 'x'],
      /^flannelctl: --nodes 'x': expected a whole number; see 'flannelctl lab up --help'\n$/,
    ],
    [['lab', 'up', '--runtime', 'podman'], /^flannelctl: --runtime 'podman': expected netns or docker; see /],
    [['lab', 'break', 'xyzzy'], /^flannelctl: fault 'xyzzy': expected mtu, .*; see 'flannelctl lab break --help'\n$/],
  ];
  for (const [args, expected] of cases) {
    const { status, stderr } = await flannelctl(args);
    assert.equal(status, 2, args.join(' '));
    assert.match(stderr, expected);
  }
});

test('an option before the command is told to stand after it', async () => {
  const before = await flannelctl(['--json', 'status']);
  assert.equal(before.status, 2);
  assert.match(before.stderr, /unknown option '--json': options stand after the command; see 'flannelctl --help'/);
  assert.doesNotMatch((await flannelctl(['status', '--xyzzy'])).stderr, /stand after/);
});

test('a repeatable option that is not given has no default in the help', async () => {
  assert.doesNotMatch((await flannelctl(['lab', 'up', '--help'])).stdout, /default: \[\]/);
});

test('an error that quotes control characters does not steer the terminal', async () => {
  const { status, stderr } = await flannelctl(['network', 'check', '{"Network": "\\u001b[2J"}']);
  assert.equal(status, 1);
  assert.ok(!stderr.includes('\x1b'), JSON.stringify(stderr));
});

test('no command at all shows the help, as a usage error', async () => {
  const nothing = await flannelctl([]);
  assert.equal(nothing.status, 2);
  assert.equal(nothing.stdout, '');
  assert.match(nothing.stderr, /^Usage: flannelctl COMMAND/);
});

const REFUSED: readonly { args: string[]; line: RegExp }[] = [
  {
    args: ['statsu'],
    line: /^flannelctl: unknown command 'statsu' \(Did you mean status\?\); see 'flannelctl --help'$/,
  },
  { args: ['xyzzy'], line: /^flannelctl: unknown command 'xyzzy'; see 'flannelctl --help'$/ },
  {
    args: ['status', '--jsn'],
    line: /^flannelctl: unknown option '--jsn' \(Did you mean --json\?\); see 'flannelctl status --help'$/,
  },
  {
    args: ['status', '--socket'],
    line: /^flannelctl: option '--socket <path>' argument missing; see 'flannelctl status --help'$/,
  },
  {
    args: ['network', 'shw'],
    line: /^flannelctl: unknown command 'shw' \(Did you mean show\?\); see 'flannelctl network --help'$/,
  },
  {
    args: ['leases', 'reserve', '--for', '192.0.2.1'],
    line: /^flannelctl: missing required argument 'subnet'; see 'flannelctl leases reserve --help'$/,
  },
  {
    args: ['status', '--socket', ''],
    line: /^flannelctl: --socket '': expected the path of a control socket$/,
  },
  {
    args: ['network', 'check', ''],
    line: /^flannelctl: configuration '': expected a file, - for standard input, or the JSON itself$/,
  },
  {
    args: ['status', 'node1'],
    line: /^flannelctl: too many arguments for 'status'.*; see 'flannelctl status --help'$/,
  },
];

for (const { args, line } of REFUSED) {
  test(`a wrong command line is one line and exit status 2: ${args.join(' ')}`, async () => {
    const { status, stdout, stderr } = await flannelctl(args);
    assert.deepEqual({ status, stdout }, { status: 2, stdout: '' });
    assert.match(stderr.trimEnd(), line);
    assert.equal(stderr.split('\n').length, 2);
  });
}

test('version tells both versions, and lives without a daemon', async (t) => {
  const socket = await daemonAnswering(t, { '/v1/version': { value: { protocol: 1, version: '9.9.9', pid: 77 } } });
  const both = await flannelctl(['version', '--socket', socket]);
  assert.deepEqual(both, { status: 0, stdout: `flannelctl ${VERSION}\nflanneld   9.9.9 (pid 77)\n`, stderr: '' });
  const absent = join(await temporaryFolder(t), 'absent.sock');
  const alone = await flannelctl(['version', '--json', '--socket', absent]);
  assert.equal(alone.status, 0);
  assert.deepEqual(JSON.parse(alone.stdout), { flannelctl: VERSION, flanneld: null });
  assert.equal((await flannelctl(['--version'])).stdout, `${VERSION}\n`);
});

test('no daemon: one line naming the socket, exit status 1', async (t) => {
  const absent = join(await temporaryFolder(t), 'absent.sock');
  const { status, stdout, stderr } = await flannelctl(['status', '--socket', absent]);
  assert.deepEqual({ status, stdout }, { status: 1, stdout: '' });
  assert.equal(
    stderr,
    `flannelctl: no flanneld at ${absent} (no such socket): start flanneld, ` +
      'or name its --control-socket with --socket PATH\n',
  );
});

test('a reader that goes away early (| head) ends the program quietly', async (t) => {
  const many = Array.from({ length: 40_000 }, (_, i) => ({
    subnet: `10.${(i >> 8) & 255}.${i & 255}.0/24`,
    publicIP: '192.0.2.1',
    reserved: false,
    expires: null,
    backendType: 'udp',
    own: false,
  }));
  const socket = await daemonAnswering(t, { '/v1/leases': { value: many } });
  const child = spawn(process.execPath, [MAIN, 'leases', '--json', '--socket', socket], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  await once(child.stdout, 'data');
  child.stdout.destroy();
  const [status] = (await once(child, 'close')) as [number | null];
  assert.deepEqual({ status, stderr }, { status: 0, stderr: '' });
});
