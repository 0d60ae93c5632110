/** Where the agent's own costs are measured: namespaces and an etcd that are gone afterwards, whatever happens. */
import { rm } from 'node:fs/promises';
import { namePrefix, removeLeftovers, temporaryFolder } from '../../test/harness/leftovers.js';
import { Store } from '../site.js';

export interface Place {
  /** Of namespaces' names. */
  readonly prefix: string;
  readonly folder: string;
  readonly store: Store;
  /** What `work` made, undone in reverse. */
  readonly cleanup: (() => Promise<unknown>)[];
}

/** @param purpose - a short word for names */
export async function withPlace<T>(purpose: string, work: (place: Place) => Promise<T>): Promise<T> {
  await removeLeftovers();
  const folder = await temporaryFolder(purpose);
  const prefix = namePrefix(purpose);
  const cleanup: (() => Promise<unknown>)[] = [() => rm(folder, { recursive: true, force: true })];
  try {
    const store = await Store.start(prefix, folder);
    cleanup.push(() => store.dispose());
    return await work({ prefix, folder, store, cleanup });
  } finally {
    for (const undo of cleanup.reverse()) await undo().catch(() => undefined);
  }
}
