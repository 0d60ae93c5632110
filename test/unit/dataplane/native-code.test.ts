/**
 * Compiles and runs the tests of `native/` that need no Node, with the sanitizers where the compiler has them; and the fuzz
 * targets, with the inputs that are kept and some more. `npm run fuzz` is the search for others.
 */
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { FUZZ_TARGETS, NATIVE_SOURCES, REPLAY, STUB_KERNEL } from '../../fuzz/targets.js';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../../../', import.meta.url));
const skip = spawnSync('c++', ['--version']).status === 0 ? false : 'needs a C++ compiler';

/** Inputs that chance makes for each fuzz target. */
const MUTATIONS = 500;

const SANITIZERS = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];

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
  const libraries = NATIVE_SOURCES;
  const programs = readdirSync(join(root, 'test/native'))
    .filter((name) => name.endsWith('.cc'))
    .map((name) => join(root, 'test/native', name));
  const targets = FUZZ_TARGETS.map(({ source }) => source);
  const fuzzing = [STUB_KERNEL, REPLAY];
  let sanitizers = SANITIZERS;

  before(async () => {
    writeFileSync(join(folder, 'nothing.cc'), 'int main() {}\n');
    const works = await run('c++', [...SANITIZERS, join(folder, 'nothing.cc'), '-o', join(folder, 'nothing')]).then(
      () => true,
      () => false,
    );
    if (!works) sanitizers = [];
    const options = ['-std=c++17', '-g', '-O1', '-Wall', '-Wextra', '-Werror', '-pthread', `-I${join(root, 'native')}`];
    await inParallel([...programs, ...targets, ...fuzzing, ...libraries], (source) =>
      run('c++', [...options, ...sanitizers, '-c', source, '-o', object(source)]),
    );
  });
  const link = async (name: string, sources: readonly string[]): Promise<string> => {
    const executable = join(folder, name);
    await run('c++', ['-pthread', ...sanitizers, ...sources.map(object), '-o', executable]);
    return executable;
  };
  after(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  test('the sanitizers look on', (context) => {
    if (sanitizers.length === 0) context.skip('this compiler has no sanitizers: what follows runs without them');
  });

  for (const program of programs) {
    const name = basename(program, '.cc');
    test(name, async () => {
      const executable = await link(name, [program, ...libraries]);
      const ran = spawnSync(executable, [folder], { encoding: 'utf8', timeout: 120_000 });
      assert.equal(ran.status, 0, `${ran.stderr}${ran.stdout}`);
      assert.match(ran.stdout, /all passed/);
    });
  }

  for (const { name, source, corpus } of FUZZ_TARGETS) {
    test(`fuzz target ${name}`, async () => {
      const executable = await link(name, [source, ...fuzzing, ...libraries]);
      const seed = String(1 + Math.floor(Math.random() * 2 ** 32));
      const ran = spawnSync(executable, [corpus, seed, String(MUTATIONS)], { encoding: 'utf8', timeout: 120_000 });
      assert.equal(ran.status, 0, `${ran.stderr}${ran.stdout}`);
      assert.match(ran.stdout, new RegExp(`^\\d+ files, ${MUTATIONS} mutations$`, 'm'));
    });
  }
});
