/** What the log tells of a watch that breaks off and stands again: each time, unless that goes on and on. */
import type { Clock } from '../../clock.js';
import type { Logger } from '../../log.js';
import { ReasonReporter } from '../../reason-reporter.js';

/** A store that comes and goes is told so often; from then on once a minute, until a watch has lasted. */
const MOST_BREAKS = 3;
const REPEAT_MS = 60_000;
/** A watch that lasts this long is no part of that. */
const LASTING_MS = 10_000;

export class WatchReporter {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #reasons: ReasonReporter;
  #stoodAtMs: number | undefined;
  /** Of watches that stood, since the last one that lasted. */
  #breaks = 0;
  #saidAtMs = -Infinity;
  #troubled = false;
  #forget = (): void => undefined;

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
    this.#reasons = new ReasonReporter(
      (reason) => this.#tell(`broke off; trying again: ${reason}`),
      () => clock.elapsed(),
    );
  }

  /** The watch stands. */
  stands(): void {
    this.#stoodAtMs = this.#clock.elapsed();
    if (this.#breaks <= MOST_BREAKS) this.#tellEnd();
    else this.#forget = this.#clock.after(LASTING_MS, () => this.#tellEnd());
  }

  /** It broke off, or could not be set up. */
  broke(reason: string): void {
    const nowMs = this.#clock.elapsed();
    this.#forget();
    if (this.#stoodAtMs !== undefined) this.#breaks = nowMs - this.#stoodAtMs < LASTING_MS ? this.#breaks + 1 : 1;
    this.#stoodAtMs = undefined;
    if (this.#breaks <= MOST_BREAKS) this.#reasons.report(reason);
    else if (nowMs - this.#saidAtMs >= REPEAT_MS || !this.#troubled)
      this.#tell(`comes and goes, which is said once a minute: ${reason}`);
  }

  /** Nobody watches any more. */
  close(): void {
    this.#forget();
  }

  #tell(what: string): void {
    this.#saidAtMs = this.#clock.elapsed();
    this.#troubled = true;
    this.#logger.warn(`the watch on the leases ${what}`);
  }

  #tellEnd(): void {
    if (this.#troubled) this.#logger.info('watching the leases again');
    this.#troubled = false;
    this.#reasons.clear();
  }
}
