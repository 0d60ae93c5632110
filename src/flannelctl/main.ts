import { processContext } from './context.js';
import { run } from './program.js';

const context = processContext();

// A reader that has seen enough (`flannelctl leases | head`) is no failure.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    // EIO is a terminal that was closed.
    if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error;
    if (context.onOutputClosed === undefined) process.exit(process.exitCode ?? 0);
    context.onOutputClosed();
  });
}

process.exitCode = await run(process.argv.slice(2), context);
