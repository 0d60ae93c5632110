import { readFile } from 'node:fs/promises';

import { BACKEND_TYPES } from '../backend/backend-types.js';
import { errorMessage } from '../errors.js';
import type { Logger } from '../log.js';
import { replaceFile } from '../replace-file.js';
import {
  formatStoreSnapshot,
  parseStoreSnapshot,
  storeSnapshotPieces,
  type StoreSnapshot,
} from '../subnet/store-snapshot.js';

/** The file that a network's snapshot is kept in, beside its subnet file. */
export function snapshotPath(subnetFile: string): string {
  return `${subnetFile}.snapshot`;
}

/** Between two writings at least, and so many times as long as the last one took: writing costs at most two percent. */
const LEAST_PAUSE_MS = 1000;
const PAUSE_FACTOR = 50;

/**
 * Keeps the snapshot of what the store has told on this host. A file that cannot be written is said once and is no reason
 * not to forward; the next start waits for the store then.
 */
export class SnapshotFile {
  readonly #path: string;
  readonly #logger: Logger;
  readonly #handedOver: string | undefined;
  #source: (() => StoreSnapshot | undefined) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;
  #nextAtMs = 0;
  #changed = false;
  #failed = false;

  /** @param handedOver - what another process has known, as text: it counts in place of the file */
  constructor(path: string, logger: Logger, handedOver?: string) {
    this.#path = path;
    this.#logger = logger;
    this.#handedOver = handedOver;
  }

  /** Whether there is anything to write, or to hand over. */
  get whole(): boolean {
    return this.#source?.() !== undefined;
  }

  /** What there is to write now, for another process. */
  current(): string | undefined {
    const snapshot = this.#source?.();
    return snapshot && formatStoreSnapshot(snapshot);
  }

  /**
   * What the last run left; `undefined`, and a line in the log, where that cannot be used.
   * @param prefix - the network that this node is to serve
   */
  async read(prefix: string): Promise<StoreSnapshot | undefined> {
    const reason = (why: string): undefined => {
      this.#logger.warn(`snapshot ${this.#path} is not used: ${why}; waiting for the store`);
      return undefined;
    };
    let text: string;
    try {
      text = this.#handedOver ?? (await readFile(this.#path, 'utf8'));
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ENOENT' ? undefined : reason(errorMessage(error));
    }
    const result = parseStoreSnapshot(text, BACKEND_TYPES);
    if (!result.ok) return reason(result.reason);
    if (result.snapshot.prefix !== prefix) return reason(`it is of the network at ${result.snapshot.prefix}`);
    return result.snapshot;
  }

  /** From now on `source` is asked for what to write; `undefined` as long as there is nothing complete. */
  follow(source: () => StoreSnapshot | undefined): void {
    this.#source = source;
    this.changed();
  }

  /** What the source gives may have changed: it is written soon, however often this is called. */
  changed(): void {
    this.#changed = true;
    if (this.#timer !== undefined || this.#writing !== undefined || this.#source === undefined) return;
    this.#timer = setTimeout(() => void this.flush(), Math.max(0, this.#nextAtMs - performance.now()));
    this.#timer.unref();
  }

  /** Writes what has changed since. Never rejects. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#writing;
    if (!this.#changed) return;
    this.#changed = false;
    this.#writing = this.#write();
    await this.#writing;
    this.#writing = undefined;
    if (this.#changed) this.changed();
  }

  async #write(): Promise<void> {
    const startedAtMs = performance.now();
    const snapshot = this.#source?.();
    if (snapshot === undefined) return;
    try {
      await replaceFile(this.#path, storeSnapshotPieces(snapshot), 0o600);
      this.#failed = false;
    } catch (error) {
      if (!this.#failed) this.#logger.warn(`snapshot ${this.#path} cannot be written: ${errorMessage(error)}`);
      this.#failed = true;
    }
    const endedAtMs = performance.now();
    this.#nextAtMs = endedAtMs + Math.max(LEAST_PAUSE_MS, PAUSE_FACTOR * (endedAtMs - startedAtMs));
  }
}
