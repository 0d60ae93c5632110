import { readFileSync } from 'node:fs';
import { errorMessage, UsageError } from '../../errors.js';
import type { EtcdOptions } from './options.js';

/** More is no password but the wrong file. */
const MAX_PASSWORD_BYTES = 4096;

/**
 * Where the password for a login comes from; `undefined` without one. A file is read for every login, so that a new
 * password needs no restart; while it cannot be read, what it held last is used.
 * @throws UsageError for a file that cannot be used
 */
export function passwordSource({ username, password, passwordFile }: EtcdOptions): (() => string) | undefined {
  if (passwordFile === undefined) return password === undefined ? undefined : () => password;
  if (username === undefined) throw new UsageError('--etcd-password-file needs --etcd-username');
  if (password !== undefined) throw new UsageError('--etcd-password-file and --etcd-password: give one of them');
  let last = readPassword(passwordFile);
  return () => {
    try {
      last = readPassword(passwordFile);
    } catch {
      // etcd says so when it is no longer the right one.
    }
    return last;
  };
}

/** One line break at the end is the editor's. */
function readPassword(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8').replace(/\r?\n$/, '');
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const reason = absent ? 'there is no such file' : errorMessage(error);
    throw new UsageError(`--etcd-password-file ${path} cannot be read: ${reason}`);
  }
  if (text === '') throw new UsageError(`--etcd-password-file ${path} is empty: expected the password`);
  if (text.includes('\n') || Buffer.byteLength(text) > MAX_PASSWORD_BYTES) {
    throw new UsageError(`--etcd-password-file ${path}: expected the password, one line, and nothing else`);
  }
  return text;
}
