import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { endProcesses, isRunning, recordProcess, withDescendants } from '../../../src/lab/process-record.js';

test('a process runs until it has ended, and a later one of its pid is another', async () => {
  const child = spawn('sleep', ['1000']);
  const record = recordProcess(child.pid ?? 0);
  assert.ok(record !== undefined);
  assert.ok(isRunning(record));
  assert.ok(!isRunning({ ...record, startTicks: record.startTicks + 1 }));
  const exited = once(child, 'exit');
  await endProcesses([{ ...record, startTicks: record.startTicks + 1 }], 0);
  assert.ok(isRunning(record), 'another process of that pid is left alone');
  await endProcesses([record]);
  assert.deepEqual(await exited, [null, 'SIGTERM']);
  assert.ok(!isRunning(record));
  assert.equal(recordProcess(child.pid ?? 0), undefined);
});

test('a child that ended at once can still be recorded, and does not run', async () => {
  const child = spawn('true');
  // Node takes notice of its end only when this function lets go.
  const ended = () => readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1].startsWith('Z');
  while (!ended()) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
  const record = recordProcess(child.pid ?? 0);
  assert.ok(record !== undefined);
  assert.ok(!isRunning(record));
  assert.deepEqual(withDescendants([record.pid]), []);
  await once(child, 'exit');
});

test('a process that will not end is killed', async () => {
  const child = spawn('sh', ['-c', 'trap "" TERM; echo deaf; while :; do sleep 1; done']);
  await once(child.stdout, 'data');
  const record = recordProcess(child.pid ?? 0);
  assert.ok(record !== undefined);
  const exited = once(child, 'exit');
  await endProcesses([record], 100);
  assert.deepEqual(await exited, [null, 'SIGKILL']);
});

test('descendants are found, and so is a program with spaces and parentheses in its name', async () => {
  const child = spawn('bash', ['-c', 'exec -a "a) b (c" bash -c "sleep 1000 & echo started; wait"']);
  try {
    await once(child.stdout, 'data');
    const found = withDescendants([child.pid ?? 0]);
    assert.equal(found.length, 2);
    assert.ok(found.some(({ pid }) => pid === child.pid));
    assert.deepEqual(withDescendants([2 ** 30]), []);
  } finally {
    await endProcesses(withDescendants([child.pid ?? 0]));
  }
});
