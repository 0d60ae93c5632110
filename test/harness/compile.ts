/** Programs of tests that are written in C++, because they do what no Node program can. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { runCommand } from '../../src/host/command.js';
import { ROOT } from './daemon.js';

/** For `skip`: why such a test cannot run here. */
export const noCompiler =
  process.getuid?.() !== 0
    ? 'needs root for namespaces and TUN devices'
    : spawnSync('c++', ['--version']).status !== 0 && 'needs a C++ compiler';

/** On a machine that has much else to do. */
const TIMEOUT_MS = 300_000;

/** Compiles one source of `test/harness` and returns the path of what became of it. */
export async function compileHarness(source: string, folder: string, options: readonly string[] = []): Promise<string> {
  const output = join(folder, source.replace(/\.cc$/, ''));
  await runCommand(
    'c++',
    [
      ...['-std=c++17', '-O1', '-Wall', '-Wextra', '-Werror', ...options],
      ...[join(ROOT, 'test/harness', source), '-o', output],
    ],
    { timeoutMs: TIMEOUT_MS },
  );
  return output;
}
