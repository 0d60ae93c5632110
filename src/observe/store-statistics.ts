import type { StoreObserver, StoreOperation } from '../subnet/subnet-manager.js';
import type { StoreHealth } from './control-protocol.js';

/** Requests of one kind and outcome. */
export interface StoreRequests {
  readonly operation: StoreOperation;
  readonly result: 'ok' | 'error';
  readonly count: number;
}

/** Counts what is asked of the store, for metrics and `flannelctl status`. */
export class StoreStatistics implements StoreObserver {
  readonly #requests = new Map<string, StoreRequests>();
  #skippedKeys = 0;
  #watchRestarts = 0;
  #healthy = false;
  #lastContactAtMs: number | undefined;
  #lastError: string | undefined;

  request(operation: StoreOperation, result: 'ok' | 'error', reason?: string): void {
    const key = `${operation} ${result}`;
    this.#requests.set(key, { operation, result, count: (this.#requests.get(key)?.count ?? 0) + 1 });
    this.#healthy = result === 'ok';
    if (result === 'ok') this.#lastContactAtMs = Date.now();
    else if (reason !== undefined) this.#lastError = reason;
  }

  watchRestarted(): void {
    this.#watchRestarts++;
  }

  skippedKeys(count: number): void {
    this.#skippedKeys = count;
  }

  requests(): Iterable<StoreRequests> {
    return this.#requests.values();
  }

  get watchRestarts(): number {
    return this.#watchRestarts;
  }

  /** Keys that hold no lease of ours now. */
  get skipped(): number {
    return this.#skippedKeys;
  }

  /** How the store does, for people; the last error is kept after it has passed. */
  health(endpoints: readonly string[], prefix: string): StoreHealth {
    return {
      endpoints,
      prefix,
      healthy: this.#healthy,
      lastError: this.#lastError,
      lastContactAt: this.#lastContactAtMs === undefined ? undefined : new Date(this.#lastContactAtMs).toISOString(),
      watchRestarts: this.#watchRestarts,
      skippedEntries: this.#skippedKeys,
    };
  }
}
