import type { RunningBackend } from '../backend/backend.js';
import { pause, type Clock } from '../clock.js';
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
  /** Starts another one in place of one that was stopped. */
  readonly start: () => Promise<RunningBackend>;
  readonly state: AgentState;
  readonly logger: Logger;
  readonly notifier: ServiceNotifier | undefined;
  readonly clock: Clock;
  /** From 0 to 1; spreads the waits. */
  readonly random?: () => number;
  readonly signal: AbortSignal;
}

/**
 * Starts the backend again whenever it fails (somebody deleted the device, a worker broke down): at once the first
 * time, with a back-off when it fails again soon. Meanwhile the agent is unready and says why.
 * @throws what is not a FlannelError; the signal's reason when it aborts
 */
export async function keepBackend(first: RunningBackend, options: KeepBackendOptions): Promise<never> {
  const { logger, clock, signal } = options;
  let running = first;
  let failures = 0;
  for (;;) {
    const startedAtMs = clock.elapsed();
    const reason = await failureOf(running, signal);
    failures = clock.elapsed() - startedAtMs < SOUND_AFTER_MS ? failures + 1 : 1;
    stall(options, reason);
    logger.error(`packets do not flow: ${reason}; the backend is started again`);
    await running.stop();
    if (failures > 1) {
      await pause(clock, retryDelayMs('BACKEND', failures - 1, (options.random ?? Math.random)()), signal);
      signal.throwIfAborted();
    }
    running = await bringUp(options);
  }
}

/**
 * Starts a backend where there was one, however often that takes.
 * @throws what cannot be mended; the signal's reason when it aborts
 */
export async function bringUp(options: KeepBackendOptions): Promise<RunningBackend> {
  const { state, logger, notifier, clock, random, signal } = options;
  const reasons = new ReasonReporter((why) => logger.error(`the backend cannot be started again: ${why}`));
  const running = await persist(options.start, {
    clock,
    random,
    signal,
    transient: TRANSIENT,
    onFailure({ message }) {
      stall(options, message);
      reasons.report(message);
    },
  });
  state.setUnready('backend', undefined);
  notifier?.status(state.summary());
  return running;
}

function stall({ state, notifier }: KeepBackendOptions, why: string): void {
  state.setUnready('backend', `packets do not flow: ${why}`);
  notifier?.status(state.summary());
}

async function failureOf(running: RunningBackend, signal: AbortSignal): Promise<string> {
  let forget = (): void => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    const abort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    forget = () => signal.removeEventListener('abort', abort);
  });
  try {
    signal.throwIfAborted();
    return await Promise.race([running.failed, aborted]);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof FlannelError) return error.message;
    throw error;
  } finally {
    forget();
  }
}
