/** How often the same reason is said again while nothing changes. */
const REPEAT_MS = 60_000;

/** Says a reason when it changes, and once a minute while it stays the same. */
export class ReasonReporter {
  readonly #say: (reason: string) => void;
  readonly #now: () => number;
  #reason: string | undefined;
  #saidAtMs = 0;

  /** @param now a clock in milliseconds that never goes back */
  constructor(say: (reason: string) => void, now: () => number = () => performance.now()) {
    this.#say = say;
    this.#now = now;
  }

  report(reason: string): void {
    const nowMs = this.#now();
    if (reason === this.#reason && nowMs - this.#saidAtMs < REPEAT_MS) return;
    this.#reason = reason;
    this.#saidAtMs = nowMs;
    this.#say(reason);
  }

  /** Whether a reason has been said since the last `clear`. */
  get troubled(): boolean {
    return this.#reason !== undefined;
  }

  /** The trouble is over; the next one is said even if it is the same. */
  clear(): void {
    this.#reason = undefined;
  }
}
