import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { dirname } from 'node:path';
import { FlannelError, errorMessage } from '../errors.js';
import { commandEnvironment } from '../host/command.js';
import type { CommandContext } from './context.js';

/**
 * Runs a program with this process's own terminal, input and output, as if it stood in its place.
 * @returns its exit status; 128 and the signal's number when a signal ended it
 * @throws FlannelError `HOST` when it cannot be started
 */
export function runForeground(
  context: CommandContext,
  command: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<number> {
  const path = `${dirname(process.argv[1] ?? '')}:${commandEnvironment().PATH ?? ''}`;
  // The program's own messages are its user's business: their locale, not ours.
  const env = { ...process.env, ...context.env, PATH: path, ...environment };
  const own = context.stdout === process.stdout;
  return new Promise((resolve, reject) => {
    // Ctrl-C reaches the child by itself; this process only waits for what it makes of it. Listened for before there
    // is a child, so that no moment is left in which a signal would end this process and leave the child behind.
    const ignore = (): void => undefined;
    const pass = (): void => void child.kill('SIGTERM');
    process.on('SIGINT', ignore).on('SIGTERM', pass);
    const done = (): void => void process.off('SIGINT', ignore).off('SIGTERM', pass);
    const child = spawn(command, args, { env, stdio: own ? 'inherit' : ['ignore', 'pipe', 'pipe'] });
    child.stdout?.on('data', (chunk: Buffer) => context.stdout.write(chunk.toString()));
    child.stderr?.on('data', (chunk: Buffer) => context.stderr.write(chunk.toString()));
    child.once('error', (error) => {
      done();
      reject(new FlannelError('HOST', `cannot run ${command}: ${errorMessage(error)}`, { cause: error }));
    });
    child.once('close', (status, signal) => {
      done();
      resolve(status ?? 128 + constants.signals[signal ?? 'SIGTERM']);
    });
  });
}
