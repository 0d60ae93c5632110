/** Temporary folders of etcd servers, named for the process that they die with. */
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const NAMED = /^flannel-etcd-([0-9]+)-/;

/** Makes a folder for a server that ends with this process, and removes those of processes that were killed. */
export async function makeEtcdFolder(): Promise<string> {
  await removeAbandonedFolders();
  return mkdtemp(join(tmpdir(), `flannel-etcd-${process.pid}-`));
}

async function removeAbandonedFolders(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const owner = NAMED.exec(name)?.[1];
    if (owner === undefined || existsSync(`/proc/${owner}`)) continue;
    await rm(join(tmpdir(), name), { recursive: true, force: true });
  }
}
