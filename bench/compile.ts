/** Compiles the benchmarks' own native programs when they are first needed. */
import { existsSync, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { runCommand } from '../src/host/command.js';
import { ROOT } from '../test/harness/daemon.js';

const COMPILER_TIMEOUT_MS = 120_000;
/** Those of the addon (binding.gyp), so that its code is compiled here as it is there. */
const FLAGS = ['-std=c++17', '-O3', '-fno-exceptions', '-fno-rtti', '-Wall', '-Wextra', '-fvisibility=hidden'];

export interface NativeProgram {
  readonly name: string;
  /** Paths of what it is made of; headers only decide whether it is out of date. */
  readonly sources: readonly string[];
  /** Folders with headers. */
  readonly include?: readonly string[];
}

/**
 * Compiles a program unless it is there and no older than its sources.
 * @returns its path
 * @throws CommandError when it does not compile
 */
export async function compileProgram({ name, sources, include = [] }: NativeProgram): Promise<string> {
  const program = join(ROOT, 'dist/bench/native', name);
  const newest = Math.max(...sources.map((path) => statSync(path).mtimeMs));
  if (existsSync(program) && statSync(program).mtimeMs >= newest) return program;
  await mkdir(dirname(program), { recursive: true });
  const units = sources.filter((path) => path.endsWith('.cc'));
  const folders = include.map((folder) => `-I${folder}`);
  await runCommand('c++', [...FLAGS, ...folders, '-o', program, ...units], { timeoutMs: COMPILER_TIMEOUT_MS });
  return program;
}
