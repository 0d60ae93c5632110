/** Runs a program of the benchmark: one line for what is wrong, and nothing left behind when it is interrupted. */
import { UsageError, errorMessage } from '../src/errors.js';

const INTERRUPTED = 130;

/**
 * @param body - gets a signal that Ctrl-C, SIGTERM and SIGHUP abort; returns the exit status
 * @returns the exit status: 2 for a UsageError, 130 after an interruption
 */
export async function runProgram(name: string, body: (signal: AbortSignal) => Promise<number>): Promise<number> {
  // A reader that has seen enough (`npm run bench | head`) is no reason to lose what was measured; EIO is a terminal that
  // was closed.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error;
    });
  }
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
