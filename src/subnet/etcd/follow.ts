/** Following a part of the store through disconnects, compaction and restores. */
import { pause } from '../../clock.js';
import { Backoff } from './backoff.js';
import type { StoreConnection } from './store-connection.js';
import { watch } from './watch-stream.js';
import type { WatchOptions } from './watch-stream.js';

export interface FollowOptions extends Pick<WatchOptions, 'key' | 'rangeEnd' | 'optional' | 'events'> {
  readonly connection: StoreConnection;
  /** From 0 up to but not including 1. */
  readonly random?: () => number;
  /** Reads what is there now, takes it for the whole truth, and answers the revision it is of. */
  read(signal: AbortSignal): Promise<string>;
  /** The watch stands. */
  opened?(): void;
  /** Something kept it from going on, and it begins anew. */
  broke(error: unknown, hadStood: boolean): void;
  /** How long to wait after this error, where that is not the usual time. */
  retryMs?(error: unknown): number | undefined;
}

/**
 * Reads once and then watches from there until the signal is aborted. After every gap it reads again, so that nothing
 * that happened in it is missed, a removal least of all. Never rejects.
 */
export async function follow(options: FollowOptions, signal: AbortSignal): Promise<void> {
  const { connection, key, rangeEnd, optional, events } = options;
  const { clock } = connection;
  const backoff = new Backoff(options.random);
  while (!signal.aborted) {
    let openedAt: number | undefined;
    try {
      const afterRevision = await options.read(signal);
      const opened = (): void => {
        openedAt = clock.elapsed();
        options.opened?.();
      };
      await watch(connection, { key, rangeEnd, optional, afterRevision, events, opened }, signal);
    } catch (error) {
      if (signal.aborted) return;
      options.broke(error, openedAt !== undefined);
      // Only a watch that lasted makes the waits short again: one that breaks at once would list in a hot loop.
      if (openedAt !== undefined && clock.elapsed() - openedAt > STABLE_MS) backoff.reset();
      await pause(clock, options.retryMs?.(error) ?? backoff.nextMs(), signal);
    }
  }
}

/** A watch that lasted this long was no part of a series of failures. */
const STABLE_MS = 10_000;
