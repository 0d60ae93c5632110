/** Drives `flannelctl lab` from outside, and makes sure that no lab outlives its test. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { OWN_FLANNELCTL } from '../../src/lab/daemon.js';
import { Lab, type LabStatus } from '../../src/lab/lab.js';
import { isNamespaceOf } from '../../src/lab/plan.js';
import { labFolder } from '../../src/lab/state.js';

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A lab's name that no other run of the tests uses. */
export function labName(word: string): string {
  return `t${process.pid}-${word}`;
}

/** Takes down the labs of this file and of runs that were killed. For `before` and `after` hooks. */
export async function sweepLabs(): Promise<void> {
  for (const name of await Lab.list()) {
    const pid = /^t([0-9]+)-/.exec(name)?.[1];
    if (pid !== undefined && (Number(pid) === process.pid || !existsSync(`/proc/${pid}`))) await Lab.down(name);
  }
}

/** Starts one command line of `flannelctl lab`. */
export function startLabCommand(args: readonly string[], env: Record<string, string> = {}): ChildProcess {
  return spawn(process.execPath, [OWN_FLANNELCTL, 'lab', ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** Runs one to its end. */
export function labCommand(...args: readonly string[]): Promise<Outcome> {
  return outcomeOf(startLabCommand(args));
}

/** Runs `flannelctl` on a node: what `flannelctl lab exec NODE -- flannelctl …` does, in one process instead of two. */
export async function flannelctlOn(name: string, node: string, ...args: readonly string[]): Promise<Outcome> {
  const lab = await Lab.open(name);
  return lab.exec(node, process.execPath, [OWN_FLANNELCTL, ...args], { allowFailure: true, timeoutMs: 120_000 });
}

/** What a started command said and how it ended. */
export function outcomeOf(child: ChildProcess): Promise<Outcome> {
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve({ status, stdout, stderr }));
  });
}

/** `lab status --json`. */
export async function labStatus(name: string): Promise<LabStatus> {
  const { stdout } = await labCommand('status', '--name', name, '--json');
  return JSON.parse(stdout) as LabStatus;
}

/** What of a lab is still there: namespaces, files, processes. Nothing, after it went down. */
export async function remainsOf(name: string): Promise<string[]> {
  const folder = labFolder(name);
  const list = (path: string) => (existsSync(path) ? readdirSync(path) : []);
  const processes: string[] = [];
  for (const pid of list('/proc').filter((entry) => /^[0-9]+$/.test(entry))) {
    const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    const words = commandLine.replaceAll('\0', ' ').trim();
    if (Number(pid) !== process.pid && words.includes(folder)) processes.push(`${pid} ${words}`);
  }
  return [
    ...list('/run/netns').filter((entry) => isNamespaceOf(name, entry)),
    ...list('/etc/netns').filter((entry) => isNamespaceOf(name, entry)),
    ...(existsSync(folder) ? [folder] : []),
    ...processes,
  ];
}
