/** The fuzz targets of `test/native/fuzz` and what they are made of. */
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { ROOT } from '../harness/daemon.js';

const FOLDER = join(ROOT, 'test/native/fuzz');
/** What stands in for the kernel; every target is linked with it. */
export const STUB_KERNEL = join(FOLDER, 'stub_kernel.cc');
/** A `main` that runs a target on files and on chance, for compilers without libFuzzer. */
export const REPLAY = join(FOLDER, 'replay.cc');

export interface FuzzTarget {
  readonly name: string;
  readonly source: string;
  /** The folder of the inputs that are kept. */
  readonly corpus: string;
}

/** All of them, in the order of their names. */
export const FUZZ_TARGETS: readonly FuzzTarget[] = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.cc'))
  .map((name) => join(FOLDER, name))
  .filter((source) => source !== STUB_KERNEL && source !== REPLAY)
  .map((source) => ({ name: basename(source, '.cc'), source }))
  .map(({ name, source }) => ({ name, source, corpus: join(FOLDER, 'corpus', name) }));

/** The sources of `native/` but its binding to Node. */
export const NATIVE_SOURCES: readonly string[] = readdirSync(join(ROOT, 'native'))
  .filter((name) => name.endsWith('.cc') && !name.endsWith('binding.cc'))
  .map((name) => join(ROOT, 'native', name));
