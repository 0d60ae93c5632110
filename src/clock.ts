/** Time as long-lived work sees it: read and waited for through an interface, so that a simulation can make it up. */
import { uptime } from 'node:os';

export interface Clock {
  /** The calendar, in milliseconds since the epoch. Somebody may set it at any moment: for people only. */
  now(): number;
  /** Milliseconds since some moment in the past. Nobody sets it, and it goes on while the machine sleeps. */
  elapsed(): number;
  /** Calls once, `delayMs` from now; what is answered takes that back. */
  after(delayMs: number, call: () => void): () => void;
}

/** The longest that a timer of Node waits. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** This machine's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  // Unlike `performance.now`, which stands still while the machine is suspended.
  elapsed: () => uptime() * 1000,
  after(delayMs, call) {
    const timer = setTimeout(call, Math.min(Math.max(delayMs, 0), LONGEST_TIMER_MS));
    return () => clearTimeout(timer);
  },
};

/** Waits; ends early, and as if nothing were, when the signal is aborted. */
export function pause(clock: Clock, durationMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const ended = (): void => {
      cancel();
      signal.removeEventListener('abort', ended);
      resolve();
    };
    const cancel = clock.after(durationMs, ended);
    signal.addEventListener('abort', ended, { once: true });
  });
}
