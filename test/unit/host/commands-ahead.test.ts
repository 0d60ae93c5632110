import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CommandResult, RunCommand } from '../../../src/host/command.js';
import { CommandsAhead } from '../../../src/host/commands-ahead.js';

/** Answers with how many programs were run until then; `false` fails. */
function counting(): { readonly run: RunCommand; readonly ran: string[] } {
  const ran: string[] = [];
  const run: RunCommand = (program, args) => {
    const result: CommandResult = { stdout: String(ran.push([program, ...args].join(' '))), stderr: '', status: 0 };
    return program === 'false' ? Promise.reject(new Error('it failed')) : Promise.resolve(result);
  };
  return { run, ran };
}

test('gives what was asked ahead to all who ask, until it is told to end', async () => {
  const { run, ran } = counting();
  const ahead = new CommandsAhead([['ip', 'address', 'show']], run);
  assert.deepEqual(ran, ['ip address show']);
  assert.equal((await ahead.run('ip', ['address', 'show'])).stdout, '1');
  assert.equal((await ahead.run('ip', ['address', 'show'])).stdout, '1');
  ahead.end();
  assert.equal((await ahead.run('ip', ['address', 'show'])).stdout, '2');
});

test('runs what was not asked ahead, and what is asked in another way', async () => {
  const { run, ran } = counting();
  const ahead = new CommandsAhead([['ip', 'address', 'show']], run);
  await ahead.run('ip', ['address show']);
  await ahead.run('ip', ['address', 'show'], { input: 'x' });
  await ahead.run('ip', ['link', 'show']);
  assert.equal(ran.length, 4);
});

test('tells a failure to whoever asks, and to nobody else', async () => {
  const { run } = counting();
  const ahead = new CommandsAhead([['false']], run);
  await new Promise((resolve) => setImmediate(resolve));
  await assert.rejects(ahead.run('false', []), /it failed/);
});
