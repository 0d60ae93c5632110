/** Runs one compiled fuzz target and reads what libFuzzer says of it. */
import { spawn } from 'node:child_process';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { FuzzLimit } from './options.js';
import type { FuzzTarget } from './targets.js';

export interface FuzzResult {
  readonly target: string;
  readonly executions: number;
  readonly seconds: number;
  /** Files with the inputs that made it fail: crashes, leaks, what took too long. */
  readonly findings: readonly string[];
  /** What the first of them was: the sanitizer's line, or the condition that did not hold. */
  readonly complaint: string | undefined;
}

const MAX_INPUT_BYTES = 2048;
/** Less memory that was freed is kept from being used again, and fewer callers are noted, than usual: it is faster. */
const ASAN_OPTIONS = 'quarantine_size_mb=16:malloc_context_size=5';
/** One input that takes longer is a finding. */
const INPUT_TIMEOUT_SECONDS = 20;

/**
 * @param program - the compiled target
 * @param folder - where the inputs that it comes upon, and its findings, are kept
 */
export async function runTarget(
  target: FuzzTarget,
  program: string,
  folder: string,
  limit: FuzzLimit,
  seed: number,
  signal: AbortSignal,
): Promise<FuzzResult> {
  signal.throwIfAborted();
  const corpus = join(folder, 'corpus', target.name);
  const findings = join(folder, 'findings', target.name);
  await Promise.all([corpus, findings, target.corpus].map((path) => mkdir(path, { recursive: true })));
  const known = new Set(await readdir(findings));
  const args = [
    'seconds' in limit ? `-max_total_time=${limit.seconds}` : `-runs=${limit.runs}`,
    ...[`-seed=${seed}`, `-max_len=${MAX_INPUT_BYTES}`, `-timeout=${INPUT_TIMEOUT_SECONDS}`],
    ...[`-artifact_prefix=${findings}/`, '-print_final_stats=1', '-verbosity=0'],
    ...[corpus, target.corpus],
  ];
  const startedMs = performance.now();
  const { status, output } = await run(program, args, signal);
  signal.throwIfAborted();
  const found = (await readdir(findings)).filter((name) => !known.has(name)).map((name) => join(findings, name));
  return {
    target: target.name,
    executions: Number(/^stat::number_of_executed_units: +(\d+)/m.exec(output)?.[1] ?? 0),
    seconds: (performance.now() - startedMs) / 1000,
    findings: found,
    complaint: status === 0 ? undefined : complaintOf(output),
  };
}

function complaintOf(output: string): string {
  const lines = output.split('\n').filter((line) => line.trim() !== '');
  const telling = lines.find((line) => /^\S+:\d+: |runtime error:|ERROR: /.test(line));
  return telling ?? lines.at(-1) ?? 'it said nothing';
}

/** libFuzzer says everything on standard error. */
function run(
  program: string,
  args: readonly string[],
  signal: AbortSignal,
): Promise<{ readonly status: number | null; readonly output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ASAN_OPTIONS } });
    const stop = (): void => void child.kill();
    signal.addEventListener('abort', stop);
    let output = '';
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.once('error', reject);
    child.once('close', (status) => {
      signal.removeEventListener('abort', stop);
      resolve({ status, output });
    });
  });
}
