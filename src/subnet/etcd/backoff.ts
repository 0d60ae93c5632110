/** How long to wait before the next try: doubling from one failure to the next, never twice the same on two nodes. */
export class Backoff {
  private failures = 0;

  /** @param random - from 0 up to but not including 1 */
  constructor(
    private readonly initialMs = 100,
    private readonly maximumMs = 5_000,
    private readonly random: () => number = Math.random,
  ) {}

  /** Between half and all of 100 ms, 200 ms, 400 ms … 5 s. */
  nextMs(): number {
    const ceiling = Math.min(this.initialMs * 2 ** this.failures, this.maximumMs);
    if (ceiling < this.maximumMs) this.failures++;
    return ceiling * (0.5 + this.random() / 2);
  }

  reset(): void {
    this.failures = 0;
  }
}
