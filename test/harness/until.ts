import { setTimeout as sleep } from 'node:timers/promises';

/** How long a test waits for something that should come soon; a loaded machine may need a multiple of what is usual. */
export const PATIENCE_MS = 30_000;

export interface UntilOptions {
  readonly withinMs?: number;
  readonly everyMs?: number;
  /** What to add to the failure, such as the last lines of a log. */
  readonly evidence?: () => string;
}

/**
 * Waits until `condition` gives something other than `undefined` or `false`, and returns that.
 * @param what - said when it does not come true: "node1 is ready"
 */
export async function until<T>(
  what: string,
  condition: () => T | undefined | false | Promise<T | undefined | false>,
  options: UntilOptions = {},
): Promise<T> {
  const { withinMs = PATIENCE_MS, everyMs = 30, evidence } = options;
  for (const deadline = Date.now() + withinMs; ; await sleep(everyMs)) {
    const value = await condition();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > deadline) {
      const more = evidence === undefined ? '' : `\n${evidence()}`;
      throw new Error(`waited ${withinMs / 1000} s in vain: ${what}${more}`);
    }
  }
}
