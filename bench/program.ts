/** Runs a program of the benchmark: one line for what is wrong, and nothing left behind when it is interrupted. */
import { UsageError, errorMessage } from '../src/errors.js';

const INTERRUPTED = 130;

/**
 * @param body - gets a signal that Ctrl-C, SIGTERM and SIGHUP abort; returns the exit status
 * @returns the exit status: 2 for a UsageError, 130 after an interruption
 */
export async function runProgram(name: string, body: (signal: AbortSignal) => Promise<number>): Promise<number> {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  const signals: NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  for (const signal of signals) process.on(signal, abort);
  try {
    return await body(controller.signal);
  } catch (error) {
    if (controller.signal.aborted) {
      process.stderr.write(`${name}: interrupted; its namespaces are removed\n`);
      return INTERRUPTED;
    }
    process.stderr.write(`${name}: ${errorMessage(error)}\n`);
    return error instanceof UsageError ? 2 : 1;
  } finally {
    for (const signal of signals) process.off(signal, abort);
  }
}
