/** Compiles and runs the tests of `native/` that need no Node, with the sanitizers where the compiler has them. */
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../../../', import.meta.url));
const skip = spawnSync('c++', ['--version']).status === 0 ? false : 'needs a C++ compiler';

const SANITIZERS = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
function sourcesIn(folder: string): string[] {
  return readdirSync(join(root, folder))
    .filter((name) => name.endsWith('.cc') && name !== 'binding.cc')
    .map((name) => join(root, folder, name));
}

/** Runs `work` for all of `items`, as many at once as there are processors. */
async function inParallel(items: readonly string[], work: (item: string) => Promise<unknown>): Promise<void> {
  const left = [...items];
  const workers = Array.from({ length: availableParallelism() }, async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
  });
  await Promise.all(workers);
}

describe('the native code keeps its contracts', { skip }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'flannelette-native-'));
  const object = (source: string) => join(folder, `${basename(source)}.o`);
  const libraries = sourcesIn('native');
  const programs = sourcesIn('test/native');
  let sanitizers = SANITIZERS;

  before(async () => {
    writeFileSync(join(folder, 'nothing.cc'), 'int main() {}\n');
    const works = await run('c++', [...SANITIZERS, join(folder, 'nothing.cc'), '-o', join(folder, 'nothing')]).then(
      () => true,
      () => false,
    );
    if (!works) sanitizers = [];
    const options = ['-std=c++17', '-g', '-O1', '-Wall', '-Wextra', '-Werror', '-pthread', `-I${join(root, 'native')}`];
    await inParallel([...programs, ...libraries], (source) =>
      run('c++', [...options, ...sanitizers, '-c', source, '-o', object(source)]),
    );
  });
  after(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  for (const program of programs) {
    const name = basename(program, '.cc');
    test(name, async () => {
      const executable = join(folder, name);
      await run('c++', ['-pthread', ...sanitizers, ...[program, ...libraries].map(object), '-o', executable]);
      const ran = spawnSync(executable, [folder], { encoding: 'utf8', timeout: 120_000 });
      assert.equal(ran.status, 0, `${ran.stderr}${ran.stdout}`);
      assert.match(ran.stdout, /all passed/);
    });
  }
});
