/** When a worker that has failed is started again: at once the first time, later and later when it fails on and on. */

/** A worker that failed last so long ago has recovered: its next failure counts as the first. */
export const CALM_MS = 30_000;

const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 3200;

/** A worker that failed so often one after the other, and carried no packet between, will not carry any. */
const FRUITLESS_LIMIT = 6;

export class RestartBackoff {
  private row = 0;
  private fruitless = 0;
  private batches = 0;
  private failedAtMs = -Infinity;

  /** @param now - milliseconds of a clock that nobody sets */
  constructor(private readonly now: () => number = () => performance.now()) {}

  /** Failures so far without {@link CALM_MS} between two of them; 0 when the last one is as long ago. */
  get inARow(): number {
    return this.now() - this.failedAtMs < CALM_MS ? this.row : 0;
  }

  /**
   * Counts a failure.
   * @param batches - those that the worker has handled in all
   * @returns milliseconds to wait before it is started again; `undefined`: not at all
   */
  failed(batches: number): number | undefined {
    this.fruitless = batches === this.batches && this.inARow > 0 ? this.fruitless + 1 : 1;
    this.row = this.inARow + 1;
    this.batches = batches;
    this.failedAtMs = this.now();
    if (this.fruitless >= FRUITLESS_LIMIT) return undefined;
    return this.row === 1 ? 0 : Math.min(FIRST_DELAY_MS * 2 ** (this.row - 2), LONGEST_DELAY_MS);
  }
}
