/** Compiles the fuzz targets with clang, libFuzzer and the sanitizers. */
import { existsSync, statSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { CommandError, runCommand } from '../../src/host/command.js';
import { FlannelError } from '../../src/errors.js';
import { ROOT } from '../harness/daemon.js';
import { NATIVE_SOURCES, STUB_KERNEL, type FuzzTarget } from './targets.js';

const SANITIZERS = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
const FLAGS = ['-std=c++17', '-g', '-O2', '-Wall', '-Wextra', '-Werror', `-I${join(ROOT, 'native')}`, ...SANITIZERS];
const COMPILER_TIMEOUT_MS = 300_000;

/**
 * @param folder - where objects and programs go; what is there and newer than every source is not compiled again
 * @returns the programs by the targets' names
 * @throws FlannelError when there is no clang with libFuzzer, or something does not compile
 */
export async function buildFuzzTargets(targets: readonly FuzzTarget[], folder: string): Promise<Map<string, string>> {
  await mkdir(folder, { recursive: true });
  const newest = await newestSource();
  const object = (source: string): string => join(folder, `${basename(source, '.cc')}.o`);
  const sources = [...NATIVE_SOURCES, STUB_KERNEL, ...targets.map(({ source }) => source)];
  const stale = (path: string): boolean => !existsSync(path) || statSync(path).mtimeMs < newest;
  await inParallel(
    sources.filter((source) => stale(object(source))),
    (source) => {
      // The fuzzer is to look for ways through the product. To follow those through the references, which go byte by byte,
      // as well would cost it half its time.
      const coverage = NATIVE_SOURCES.includes(source) ? ['-fsanitize=fuzzer-no-link'] : [];
      return clang([...FLAGS, ...coverage, '-c', source, '-o', object(source)]);
    },
  );
  const libraries = [...NATIVE_SOURCES, STUB_KERNEL].map(object);
  const programs = new Map(targets.map(({ name }) => [name, join(folder, name)]));
  await inParallel(
    targets.filter(({ name }) => stale(join(folder, name))),
    ({ name, source }) =>
      clang([...SANITIZERS, '-fsanitize=fuzzer', object(source), ...libraries, '-o', join(folder, name)]),
  );
  return programs;
}

async function clang(args: readonly string[]): Promise<void> {
  try {
    await runCommand('clang++', args, { timeoutMs: COMPILER_TIMEOUT_MS });
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const withoutFuzzer = /(cannot find|no such file)[^\n]*libclang_rt\./i.test(error.result.stderr);
    if (error.reason !== 'missing' && !withoutFuzzer) throw error;
    const what = withoutFuzzer ? 'this clang has no libFuzzer' : 'there is no clang++';
    throw new FlannelError('HOST', `${what}: install it with \`apt-get install clang libclang-rt-dev\``);
  }
}

/** When any source or header was changed last. */
async function newestSource(): Promise<number> {
  const folders = ['native', 'test/native', 'test/native/fuzz'].map((name) => join(ROOT, name));
  const files = await Promise.all(folders.map(async (path) => (await readdir(path)).map((name) => join(path, name))));
  return Math.max(
    ...files
      .flat()
      .filter((path) => /\.(cc|h)$/.test(path))
      .map((path) => statSync(path).mtimeMs),
  );
}

async function inParallel<Item>(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> {
  const left = [...items];
  const workers = Array.from({ length: availableParallelism() }, async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
  });
  await Promise.all(workers);
}
