/**
 * Gives a folder and the daemon's own files in it to the user of `--user`. Whoever could write there before may have put
 * something else in their place, a link to a file that is nobody's business above all: so each is opened without following
 * links, looked at, and given by what was looked at.
 */
import { chownSync, closeSync, constants, fstatSync, openSync, type Stats } from 'node:fs';
import type { Identity } from '../dataplane/rights.js';
import { errorMessage } from '../errors.js';

/** Neither reads nor writes, and opens sockets as well; open(2). Node does not name it. */
const O_PATH = 0o10000000;

/**
 * @param folder - not followed where it is a link
 * @param names - of files that may be there; nothing else in the folder is touched
 * @returns what was left as it is, and why, one line each
 * @throws Error of the file system where the folder itself cannot be given
 */
export function giveFolder(folder: string, names: readonly string[], user: Pick<Identity, 'uid' | 'gid'>): string[] {
  const fd = openSync(folder, O_PATH | constants.O_NOFOLLOW | constants.O_DIRECTORY);
  try {
    give(fd, user);
    return names.flatMap((name) => giveFile(fd, name, user) ?? []).map((why) => `${folder}/${why}`);
  } finally {
    closeSync(fd);
  }
}

function giveFile(folder: number, name: string, user: Pick<Identity, 'uid' | 'gid'>): string | undefined {
  let fd: number;
  try {
    fd = openSync(`${pathOf(folder)}/${name}`, O_PATH | constants.O_NOFOLLOW);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    return `${name} is not given to the user of --user: ${errorMessage(error)}`;
  }
  try {
    const strange = strangeness(fstatSync(fd));
    if (strange !== undefined) return `${name} is not given to the user of --user, since ${strange}: remove it`;
    give(fd, user);
    return undefined;
  } finally {
    closeSync(fd);
  }
}

/** What flanneld would not have made. */
function strangeness(file: Stats): string | undefined {
  if (file.isSymbolicLink()) return 'it is a symbolic link';
  if (!file.isFile() && !file.isSocket()) return 'it is neither a file nor a socket';
  return file.nlink > 1 ? 'it has other names (hard links)' : undefined;
}

function give(fd: number, { uid, gid }: Pick<Identity, 'uid' | 'gid'>): void {
  // fchown(2) refuses a descriptor of O_PATH; this leads to what it has open, whatever its path leads to by now.
  chownSync(pathOf(fd), uid, gid);
}

function pathOf(fd: number): string {
  return `/proc/self/fd/${fd}`;
}
