import { readFile } from 'node:fs/promises';
import { FlannelError, UsageError, fileErrorMessage } from '../errors.js';
import type { CommandContext } from './context.js';

/** No configuration is longer; whatever is, is another file. */
const MAX_LENGTH = 1024 * 1024;

/** A configuration as it was given, and how to call it in messages. */
export interface NetworkSource {
  readonly text: string;
  readonly name: string;
}

/**
 * Reads a configuration from what stands on the command line: `-` is standard input, what begins with a brace is the
 * configuration itself, anything else is a file.
 * @throws FlannelError `HOST` when it cannot be read; UsageError for an empty argument
 */
export async function readNetworkSource(argument: string, context: CommandContext): Promise<NetworkSource> {
  if (argument === '')
    throw new UsageError("configuration '': expected a file, - for standard input, or the JSON itself");
  if (argument.trimStart().startsWith('{')) return { text: argument.trim(), name: 'the given JSON' };
  if (argument === '-') {
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of context.stdin) {
      const bytes = Buffer.from(chunk as Buffer | string);
      length += bytes.length;
      if (length > MAX_LENGTH) throw new FlannelError('HOST', 'standard input is too long for a network configuration');
      chunks.push(bytes);
    }
    return { text: Buffer.concat(chunks).toString('utf8').trim(), name: 'standard input' };
  }
  try {
    const bytes = await readFile(argument);
    if (bytes.length > MAX_LENGTH) throw new Error('too long for a network configuration');
    return { text: bytes.toString('utf8').trim(), name: argument };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const why = code === 'ENOENT' ? 'no such file' : fileErrorMessage(error);
    throw new FlannelError('HOST', `cannot read ${argument}: ${why}`, { cause: error });
  }
}
