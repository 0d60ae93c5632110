/** What native code spends on packets: cutting, merging and checksums, timed by a program in C++. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from '../../src/host/command.js';
import { ROOT } from '../../test/harness/daemon.js';
import { compileProgram } from '../compile.js';
import type { Row } from './row.js';

const NATIVE = join(ROOT, 'native');
/** The part of the addon that makes no system calls. */
const UNDER_MEASUREMENT = ['checksum.cc', 'inner.cc', 'segment.cc', 'coalesce.cc'];

/**
 * Compiles and runs the program.
 * @param words - what the names of the steps contain, any of them; none: all steps
 * @throws CommandError when either fails
 */
export async function measureNative(words: readonly string[]): Promise<Row[]> {
  const headers = readdirSync(NATIVE).filter((name) => name.endsWith('.h'));
  const sources = [...UNDER_MEASUREMENT, ...headers].map((name) => join(NATIVE, name));
  const own = join(ROOT, 'bench/micro/native/micro.cc');
  const program = await compileProgram({ name: 'micro', sources: [own, ...sources], include: [NATIVE] });
  const { stdout } = await runCommand(program, words);
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Row);
}
