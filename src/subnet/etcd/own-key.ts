/** What this process knows of the key that holds its subnet. */
import type { StoredEntry } from './lease-store.js';

/**
 * The key of this node's subnet as it was last seen or written. It outlives one lease: who takes the subnet over under
 * another address must have seen the key as it is.
 */
export class OwnKey {
  private last: StoredEntry | undefined;

  /** Takes note of the key as it is now. */
  seen(entry: StoredEntry): void {
    this.last = entry;
  }

  /** Whether this is the key, and nobody has written it since. */
  isUnchanged(entry: StoredEntry): boolean {
    return this.last?.name === entry.name && this.last.modRevision === entry.modRevision;
  }

  /**
   * Whether somebody has written the key since it was seen. A revision that lies before that one is no write: the store
   * was restored from a backup.
   */
  wasRewritten(entry: StoredEntry): boolean {
    return this.last?.name === entry.name && BigInt(entry.modRevision) > BigInt(this.last.modRevision);
  }
}
