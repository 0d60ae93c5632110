import { pause, type Clock } from '../clock.js';

import { FlannelError, type ErrorCode } from '../errors.js';

export interface PersistOptions {
  readonly clock: Clock;
  /** From 0 to 1; spreads the waits. */
  readonly random?: () => number;
  readonly signal: AbortSignal;
  /** The errors that may pass by themselves or be repaired; others end the trying. */
  readonly transient: ReadonlySet<ErrorCode>;
  /** Called for every failure that is tried again. */
  onFailure(error: FlannelError): void;
}

/**
 * Tries until it works: after a bad configuration every second, since someone is repairing it; after other failures
 * with a growing back-off, spread out so that a whole cluster does not come back to the store at once.
 * @throws whatever is not transient; the signal's reason when it aborts
 */
export async function persist<T>(attempt: () => Promise<T>, options: PersistOptions): Promise<T> {
  for (let failures = 1; ; failures++) {
    options.signal.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      options.signal.throwIfAborted();
      if (!(error instanceof FlannelError) || !options.transient.has(error.code)) throw error;
      options.onFailure(error);
      await pause(options.clock, retryDelayMs(error.code, failures, (options.random ?? Math.random)()), options.signal);
    }
  }
}

/** How long to wait after the n-th failure in a row; `chance` is a random number from 0 to 1. */
export function retryDelayMs(code: ErrorCode, failures: number, chance: number): number {
  if (code === 'CONFIG') return 1000;
  // The store that is back is to be noticed within two seconds.
  if (code === 'STORE') return Math.min(750, 100 * 2 ** (failures - 1)) * (0.5 + 0.5 * chance);
  const ceilingMs = Math.min(5000, 1000 * 1.5 ** (failures - 1));
  return ceilingMs * (0.8 + 0.2 * chance);
}

/** Whether an error is only the echo of a stop that was asked for. */
export function isAbort(error: unknown, signal: AbortSignal): boolean {
  return signal.aborted && (error === signal.reason || (error instanceof Error && error.name === 'AbortError'));
}

/** Bounds something that is to end soon: resolves when it does, fails or takes too long. */
export async function within(ms: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work.catch(() => undefined), timeout]);
  clearTimeout(timer);
}
