/** Keys in the place of leases that hold none: counted, and named in the log, but never so many that they fill it. */
import type { Logger } from '../../log.js';
import type { StoreObserver } from '../subnet-manager.js';

export interface SkippedKeysOptions {
  /** What their names begin with, the slash included. */
  readonly folder: string;
  readonly logger: Logger;
  readonly observer?: StoreObserver;
  /** A clock in milliseconds that never goes back. */
  readonly nowMs?: () => number;
}

/** Lines in each ten minutes: keys are written by programs, and a program that errs does so by the thousand. */
const MAX_LINES = 32;
const WINDOW_MS = 10 * 60_000;

export class SkippedKeys {
  /** The reason of each. */
  private reasons = new Map<string, string>();
  /** What was told of before everything began anew. */
  private before: ReadonlyMap<string, string> = new Map();
  private linesInWindow = 0;
  private windowBeganAtMs = -Infinity;

  constructor(private readonly options: SkippedKeysOptions) {}

  /** All keys are told once more: those that are not are gone. */
  beginAnew(): void {
    this.before = this.reasons;
    this.reasons = new Map();
  }

  /** A key holds no lease; that is said unless it was said before. */
  add(name: string, reason: string): void {
    const told = this.reasons.get(name) ?? this.before.get(name);
    this.reasons.set(name, reason);
    if (told !== reason) this.say(name, reason);
  }

  delete(name: string): void {
    this.reasons.delete(name);
  }

  /** A listing or a batch of changes has been gone through. */
  settled(): void {
    this.before = new Map();
    this.options.observer?.skippedKeys(this.reasons.size);
  }

  private say(name: string, reason: string): void {
    const { folder, logger, nowMs = () => performance.now() } = this.options;
    const now = nowMs();
    if (now - this.windowBeganAtMs >= WINDOW_MS) {
      this.windowBeganAtMs = now;
      this.linesInWindow = 0;
    }
    this.linesInWindow++;
    if (this.linesInWindow <= MAX_LINES) {
      const key = JSON.stringify(folder + name);
      logger.warn(`skipping the key ${key}, which holds no lease of this network: ${reason}`);
    } else if (this.linesInWindow === MAX_LINES + 1) {
      logger.warn(`more keys under ${folder} hold no lease of this network; no more are named for ten minutes`);
    }
  }
}
