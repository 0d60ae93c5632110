/** Runs a program of the benchmark: one line for what is wrong, and nothing left behind when it is interrupted. */
import { UsageError, errorMessage } from '../src/errors.js';

const INTERRUPTED = 130;

/**
 * For a program that leaves something behind unless it gets to clear it away.
 * @param body - gets a signal that Ctrl-C, SIGTERM and SIGHUP abort; returns the exit status
 * @param afterwards - how it leaves the machine when it is interrupted, for people
 * @returns the exit status: 2 for a UsageError, 130 after an interruption
 */
export async function runProgram(
  name: string,
  body: (signal: AbortSignal) => Promise<number>,
  afterwards = 'its namespaces are removed',
): Promise<number> {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  const signals: NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  for (const signal of signals) process.on(signal, abort);
  return reportErrors(name, async () => {
    try {
      return await body(controller.signal);
    } catch (error) {
      if (!controller.signal.aborted) throw error;
      process.stderr.write(`${name}: interrupted; ${afterwards}\n`);
      return INTERRUPTED;
    } finally {
      for (const signal of signals) process.off(signal, abort);
    }
  });
}

/**
 * For a program that has nothing to clear away, and that a signal may end at once.
 * @param body - returns the exit status
 * @returns the exit status: 2 for a UsageError
 */
export async function reportErrors(name: string, body: () => Promise<number>): Promise<number> {
  // A reader that has seen enough (`npm run bench | head`) is no reason to lose what was measured; EIO is a terminal that
  // was closed.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error;
    });
  }
  try {
    return await body();
  } catch (error) {
    process.stderr.write(`${name}: ${errorMessage(error)}\n`);
    return error instanceof UsageError ? 2 : 1;
  }
}
