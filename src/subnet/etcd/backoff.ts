/** Between two tries, at most: an attempt that hangs and the pause after it are less than two seconds together. */
const LONGEST_MS = 750;
const FIRST_MS = 100;

/** How long to wait before the next try: doubling from one failure to the next, never twice the same on two nodes. */
export class Backoff {
  private failures = 0;

  /** @param random - from 0 up to but not including 1 */
  constructor(private readonly random: () => number = Math.random) {}

  /** Between half and all of 100 ms, 200 ms, 400 ms, 750 ms, 750 ms … */
  nextMs(): number {
    const ceiling = Math.min(FIRST_MS * 2 ** this.failures, LONGEST_MS);
    if (ceiling < LONGEST_MS) this.failures++;
    return ceiling * (0.5 + this.random() / 2);
  }

  reset(): void {
    this.failures = 0;
  }
}
