/** What this process knows of the key that holds its subnet. */
import type { SeenKey } from './stored-entry.js';

/**
 * The key of this node's subnet as it was last seen or written. It outlives one lease: who takes the subnet over under
 * another address must have seen the key as it is.
 */
export class OwnKey {
  private last: SeenKey | undefined;
  private shared = false;

  /** Takes note of the key as it is now. */
  seen(entry: SeenKey): void {
    if (this.last?.name !== entry.name) this.shared = false;
    this.last = entry;
  }

  /** Another machine keeps the same key under the same address: who of the two is to have it cannot be told from here. */
  sharedWithAnother(): void {
    this.shared = true;
  }

  /**
   * Whether this is the key, it is nobody else's as well, and nobody has written it since. The revision alone does not
   * tell: a store that is restored from a backup counts on from there, and comes to the same one twice.
   */
  isUnchanged({ name, modRevision, etcdLeaseId }: SeenKey): boolean {
    const { last } = this;
    return !this.shared && last?.name === name && last.modRevision === modRevision && last.etcdLeaseId === etcdLeaseId;
  }

  /**
   * Whether somebody has written the key since it was seen. A revision that lies before that one is no write: the store
   * was restored from a backup.
   */
  wasRewritten(entry: SeenKey): boolean {
    return this.last?.name === entry.name && BigInt(entry.modRevision) > BigInt(this.last.modRevision);
  }
}
