import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CommandError, runCommand } from '../../../src/host/command.js';
import { FlannelError } from '../../../src/errors.js';

test('collects output and passes input', async () => {
  assert.deepEqual(await runCommand('sh', ['-c', 'cat; echo problem >&2'], { input: 'text' }), {
    stdout: 'text',
    stderr: 'problem\n',
    status: 0,
  });
});

test('input that nobody reads is no error', async () => {
  assert.equal((await runCommand('true', [], { input: 'x'.repeat(1_000_000) })).status, 0);
});

const FAILURES: readonly [string, string, readonly string[], RegExp, CommandError['reason'], number?][] = [
  [
    'the first line of its complaint',
    'sh',
    ['-c', 'echo "# remark" >&2; echo bad >&2; echo worse >&2; exit 3'],
    /^`sh -c [^]* failed: bad$/,
    'failed',
    3,
  ],
  ['its status when it says nothing', 'sh', ['-c', 'exit 4'], /failed: it ended with status 4$/, 'failed', 4],
  ['the signal that ended it', 'sh', ['-c', 'kill -TERM $$'], /failed: it ended with status 143$/, 'failed', 143],
  [
    'that it is missing',
    'no-such-program',
    [],
    /^cannot run no-such-program: there is no such program in PATH$/,
    'missing',
  ],
];

for (const [what, command, args, message, reason, status] of FAILURES) {
  test(`a failing program’s error tells ${what}`, async () => {
    await assert.rejects(runCommand(command, args), (error) => {
      assert.ok(error instanceof CommandError && error instanceof FlannelError);
      assert.equal(error.code, 'HOST');
      assert.equal(error.reason, reason);
      assert.match(error.message, message);
      if (status !== undefined) assert.equal(error.result.status, status);
      return true;
    });
  });
}

test('a failure may be an answer, a missing program may not', async () => {
  assert.equal((await runCommand('sh', ['-c', 'exit 7'], { allowFailure: true })).status, 7);
  assert.equal((await runCommand('sh', ['-c', 'kill -KILL $$'], { allowFailure: true })).status, 137);
  await assert.rejects(runCommand('no-such-program', [], { allowFailure: true }), { code: 'HOST' });
});

test('a program that does not end is ended, and said so, whether failure is allowed or not', async () => {
  for (const allowFailure of [false, true]) {
    await assert.rejects(runCommand('sleep', ['1000'], { timeoutMs: 50, allowFailure }), (error) => {
      assert.ok(error instanceof CommandError);
      assert.equal(error.reason, 'timeout');
      assert.equal(error.message, '`sleep 1000` did not end within 0.05 s');
      return true;
    });
  }
});

test('messages are in English and the programs of administrators are found, whatever the environment', async () => {
  const { stdout } = await runCommand('sh', ['-c', 'echo $LC_ALL $PATH $EXTRA'], { environment: { EXTRA: 'extra' } });
  assert.match(stdout, /^C .*:\/usr\/sbin:\/sbin extra\n$/);
});
