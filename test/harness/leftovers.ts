/**
 * Names for what a test makes on this machine, chosen so that the next run finds what a killed one left behind and
 * leaves alone what a living one uses.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Namespace, removeNamespaces } from '../../src/lab/namespace.js';

const MARK = 'fltest';
const NAMED = new RegExp(`^${MARK}-([0-9]+)-`);

/** The prefix of everything this process makes for `purpose`: `fltest-4711-restart`. */
export function namePrefix(purpose: string): string {
  return `${MARK}-${process.pid}-${purpose}`;
}

/** A folder of this process's own, short enough for unix sockets in it. */
export function temporaryFolder(purpose: string): Promise<string> {
  return mkdtemp(join(tmpdir(), `${namePrefix(purpose)}-`));
}

/** Removes the namespaces (with the processes in them) and folders of runs that are no more. */
export async function removeLeftovers(): Promise<void> {
  const stale = (folder: string): string[] => names(folder).filter((name) => isStale(name));
  await removeNamespaces(stale('/run/netns').map((name) => Namespace.attach(name)));
  for (const name of stale(tmpdir())) await rm(join(tmpdir(), name), { recursive: true, force: true });
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function isStale(name: string): boolean {
  const pid = NAMED.exec(name)?.[1];
  if (pid === undefined) return false;
  try {
    // The pid may be another program's by now.
    return !readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('node');
  } catch {
    return true;
  }
}
