/** A revision of this project, checked out and built beside this checkout. */
import { existsSync } from 'node:fs';
import { readFile, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { FlannelError, UsageError } from '../src/errors.js';
import { runCommand } from '../src/host/command.js';
import { ROOT } from '../test/harness/daemon.js';

const BUILD_TIMEOUT_MS = 10 * 60_000;
const LOCK = 'package-lock.json';

/** A built revision. */
export interface Revision {
  /** Its commit, in short. */
  readonly commit: string;
  /** Its `bin/flanneld`. */
  readonly flanneld: string;
  /** Removes the worktree. */
  dispose(): Promise<void>;
}

/** What a revision's name stands for, in short. @throws UsageError when git knows no such commit */
export async function resolveRevision(name: string): Promise<string> {
  const args = ['-C', ROOT, 'rev-parse', '--verify', '--quiet', '--short', '--end-of-options', `${name}^{commit}`];
  const { stdout, status } = await runCommand('git', args, { allowFailure: true });
  if (status !== 0) throw new UsageError(`git knows no revision "${name}" here`);
  return stdout.trim();
}

/**
 * Checks a commit out into a new folder and builds it.
 * @throws FlannelError when it does not build; nothing is left of it then
 */
export async function buildRevision(commit: string, folder: string): Promise<Revision> {
  const dispose = async (): Promise<void> => {
    await runCommand('git', ['-C', ROOT, 'worktree', 'remove', '--force', folder], { allowFailure: true });
    await rm(folder, { recursive: true, force: true });
    await runCommand('git', ['-C', ROOT, 'worktree', 'prune'], { allowFailure: true });
  };
  try {
    await runCommand('git', ['-C', ROOT, 'worktree', 'add', '--quiet', '--detach', folder, commit]);
    await installModules(folder);
    await npm(folder, ['run', 'build']);
    const flanneld = join(folder, 'bin/flanneld');
    if (!existsSync(flanneld)) throw new FlannelError('LAB', `${commit} has no bin/flanneld`);
    return { commit, flanneld, dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** Takes this checkout's dependencies when they are the same; else those of the revision. */
async function installModules(folder: string): Promise<void> {
  const lock = async (root: string): Promise<string> => readFile(join(root, LOCK), 'utf8');
  if ((await lock(folder)) === (await lock(ROOT)))
    await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  else await npm(folder, ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
}

async function npm(folder: string, args: readonly string[]): Promise<void> {
  await runCommand('npm', args, { workingDirectory: folder, timeoutMs: BUILD_TIMEOUT_MS });
}
