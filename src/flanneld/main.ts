/**
 * The process: signals, exit statuses, and the promise that a user only ever sees lines, never a stack trace. All that
 * takes time to load is loaded after the signals are in hand.
 */
import { writeSync } from 'node:fs';

import { FlannelError, UsageError, errorMessage } from '../errors.js';
import type { LineLogger } from '../observe/logger.js';
import type { Invocation } from './flags.js';
import { within } from './persistence.js';

/** A stop takes no longer than this, whatever it hangs on. */
const STOP_DEADLINE_MS = 800;
const FLUSH_MS = 200;

const EXIT_OK = 0;
const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;

const PASSWORD_VARIABLE = 'FLANNELD_ETCD_PASSWORD';

const stop = new AbortController();
let logger: LineLogger | undefined;
let verbose = false;

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.on(signal, () => {
    if (stop.signal.aborted) return;
    logger?.info('stopping', { signal });
    stop.abort(new Error(`stopped by ${signal}`));
    setTimeout(() => void exit(EXIT_OK), STOP_DEADLINE_MS);
  });
}
// Node would open its debugger, by which every user of this host could run code with the daemon's rights.
process.on('SIGUSR1', () => logger?.info('SIGUSR1 is not used: nothing is done'));
// Node's own way is to print these, which tells a user nothing.
process.removeAllListeners('warning');
process.on('warning', (warning) => logger?.debug(`Node.js warns: ${errorMessage(warning)}`));
process.on('uncaughtException', (error) => void fail(error));
process.on('unhandledRejection', (error) => void fail(error));

void main();

async function main(): Promise<void> {
  try {
    const { readInvocation } = await import('./flags.js');
    await carryOut(readInvocation(process.argv.slice(2), process.env));
    await exit(EXIT_OK);
  } catch (error) {
    await fail(error);
  }
}

async function carryOut(invocation: Invocation): Promise<void> {
  switch (invocation.action) {
    case 'help': {
      const [{ helpText }, { VERSION }] = await Promise.all([import('./help.js'), import('../version.js')]);
      print(helpText(VERSION, process.stdout.columns));
      return;
    }
    case 'version': {
      const { VERSION } = await import('../version.js');
      print(`flanneld (flannelette) ${VERSION}\n`);
      return;
    }
    case 'cleanup': {
      const { cleanUp } = await import('./cleanup.js');
      await cleanUp(invocation.options, (line) => print(`${line}\n`));
      return;
    }
    case 'run': {
      const { options } = invocation;
      verbose = options.verbosity > 0;
      const { confine } = await import('./confinement.js');
      stop.signal.throwIfAborted();
      const warnings = [...invocation.warnings, ...(await confine(options))];
      // Programs that the daemon runs have no use for it.
      Reflect.deleteProperty(process.env, PASSWORD_VARIABLE);
      const { LineLogger } = await import('../observe/logger.js');
      logger = new LineLogger({ format: options.logFormat, debug: verbose });
      for (const warning of warnings) logger.warn(warning);
      const { takeHeadStart } = await import('./head-start.js');
      const headStart = takeHeadStart(options);
      const { runAgent } = await import('./run-agent.js');
      stop.signal.throwIfAborted();
      await runAgent(options, headStart, logger, stop.signal);
      return;
    }
  }
}

/** Ends the process for an error: one line, and for one nobody foresaw how to learn more. */
async function fail(error: unknown): Promise<void> {
  // What breaks while everything is being ended is no news.
  if (stop.signal.aborted) return exit(EXIT_OK);
  const expected = error instanceof FlannelError;
  const status = error instanceof UsageError ? EXIT_USAGE : EXIT_FAILURE;
  let message = errorMessage(error);
  if (!expected) message = `unexpected error: ${message}${verbose ? '' : '; run with -v=1 for details'}`;
  if (logger === undefined) {
    writeLine(2, `flanneld: ${message}\n`);
  } else {
    const stack = !expected && error instanceof Error ? error.stack : undefined;
    if (stack !== undefined) logger.debug('details of the unexpected error', { stack });
    logger.error(message);
  }
  await exit(status);
}

async function exit(status: number): Promise<never> {
  if (logger !== undefined) await within(FLUSH_MS, logger.flush(FLUSH_MS));
  process.exit(status);
}

function print(text: string): void {
  writeLine(1, text);
}

/** Writes all of it, at once, and does not mind when nobody reads any more. */
function writeLine(descriptor: number, text: string): void {
  let bytes = Buffer.from(text);
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(writeSync(descriptor, bytes));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return;
    }
  }
}
