import { setTimeout as sleep } from 'node:timers/promises';

import type { RunningBackend } from '../backend/backend.js';
import { FlannelError, type ErrorCode } from '../errors.js';
import type { Logger } from '../log.js';
import type { ServiceNotifier } from '../observe/sd-notify.js';
import { ReasonReporter } from '../reason-reporter.js';
import type { AgentState } from './agent-state.js';
import { persist, retryDelayMs } from './persistence.js';

/** What a new start of the backend may fail with and be tried again: a host that once ran it can be mended. */
const TRANSIENT: ReadonlySet<ErrorCode> = new Set(['HOST', 'BACKEND', 'INTERFACE']);

/** A backend that ran for so long had nothing wrong with it: its failure counts as the first. */
const SOUND_AFTER_MS = 60_000;

export interface KeepBackendOptions {
  readonly running: RunningBackend;
  /** Starts another one in place of one that was stopped. */
  readonly start: () => Promise<RunningBackend>;
  readonly state: AgentState;
  readonly logger: Logger;
  readonly notifier: ServiceNotifier | undefined;
  readonly signal: AbortSignal;
}

/**
 * Starts the backend again whenever it fails (somebody deleted the device, a worker broke down): at once the first
 * time, with a back-off when it fails again soon. Meanwhile the agent is unready and says why.
 * @throws what is not a FlannelError; the signal's reason when it aborts
 */
export async function keepBackend(options: KeepBackendOptions): Promise<never> {
  const { state, logger, notifier, signal } = options;
  let { running } = options;
  let failures = 0;
  for (;;) {
    const startedAtMs = performance.now();
    const reason = await failureOf(running);
    signal.throwIfAborted();
    failures = performance.now() - startedAtMs < SOUND_AFTER_MS ? failures + 1 : 1;
    const stall = (why: string): void => {
      state.stalled = `packets do not flow: ${why}`;
      notifier?.status(state.summary());
    };
    stall(reason);
    logger.error(`packets do not flow: ${reason}; the backend is started again`);
    await running.stop();
    if (failures > 1) await sleep(retryDelayMs('BACKEND', failures - 1, Math.random()), undefined, { signal });
    const reasons = new ReasonReporter((why) => logger.error(`the backend cannot be started again: ${why}`));
    running = await persist(options.start, {
      signal,
      transient: TRANSIENT,
      onFailure({ message }) {
        stall(message);
        reasons.report(message);
      },
    });
    state.stalled = undefined;
    notifier?.status(state.summary());
  }
}

async function failureOf(running: RunningBackend): Promise<string> {
  try {
    return await running.failed;
  } catch (error) {
    if (error instanceof FlannelError) return error.message;
    throw error;
  }
}
