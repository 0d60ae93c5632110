/** Compiles and runs the tests of `native/` that need no Node, with the sanitizers where the compiler has them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../../', import.meta.url));
const skip = spawnSync('c++', ['--version']).status === 0 ? false : 'needs a C++ compiler';

test('the native code keeps its contracts: batches, retries, wake-ups, sockets', { skip }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'flannelette-native-'));
  try {
    const program = join(folder, 'batch_test');
    const sources = readdirSync(join(root, 'native'))
      .filter((name) => name.endsWith('.cc') && name !== 'binding.cc')
      .map((name) => join(root, 'native', name));
    const compile = (...options: string[]) =>
      spawnSync(
        'c++',
        [
          ...['-std=c++17', '-g', '-O1', '-Wall', '-Wextra', '-Werror', '-pthread', `-I${join(root, 'native')}`],
          ...[...options, join(root, 'test/native/batch_test.cc'), ...sources, '-o', program],
        ],
        { encoding: 'utf8' },
      );
    let compiled = compile('-fsanitize=address,undefined', '-fno-sanitize-recover=all');
    if (compiled.status !== 0) compiled = compile();
    assert.equal(compiled.status, 0, compiled.stderr);
    const run = spawnSync(program, [folder], { encoding: 'utf8', timeout: 60_000 });
    assert.equal(run.status, 0, `${run.stderr}${run.stdout}`);
    assert.match(run.stdout, /all passed/);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
