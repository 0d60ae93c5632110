/** What root leaves behind for the user of `--user`, before the daemon becomes that user. */
import { chmodSync, chownSync, mkdirSync, statSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import type { Identity } from '../dataplane/rights.js';
import { FlannelError, errorMessage } from '../errors.js';
import { READ, SEARCH, WRITE, inaccessibleFiles, mayAccess, runtimeFolders } from './capabilities.js';
import type { FlanneldOptions } from './flags.js';
import { giveFolder } from './give-folder.js';
import { handoverPath } from './handover.js';
import { snapshotPath } from './snapshot-file.js';

const OWN_FOLDER = '/run/flannel';
const TUN = '/dev/net/tun';

/**
 * What only root can do for another user: the device, and folders that it may write to. One that exists is given to it
 * only when that is flannel's own, which service managers make for root.
 * @returns what an operator should know, one line each
 */
export function prepareFor(options: FlanneldOptions, identity: Identity): string[] {
  const left: string[] = [];
  for (const folder of runtimeFolders(options)) {
    try {
      const exists = statSync(folder, { throwIfNoEntry: false }) !== undefined;
      if (exists && folder !== OWN_FOLDER) continue;
      mkdirSync(folder, { recursive: true, mode: 0o755 });
      left.push(...giveFolder(folder, ownFiles(options, folder), identity));
    } catch (error) {
      throw new FlannelError('HOST', `cannot make the folder ${folder} for --user: ${errorMessage(error)}`);
    }
  }
  const [path] = inaccessibleFiles(options, identity);
  if (path === undefined) {
    openTunTo(identity);
    return left;
  }
  const closed = closedFolder(path, identity);
  const remedy =
    closed === undefined
      ? `give it to that user, as with \`chown ${options.user} ${path}\``
      : `let that user pass through ${closed}, as with \`chmod o+x ${closed}\`, or choose another place`;
  const access = runtimeFolders(options).includes(path) ? 'write to' : 'read';
  throw new FlannelError('HOST', `the user ${options.user} of --user may not ${access} ${path}: ${remedy}`);
}

/** The first folder on the way to a file that a user may not pass through; `undefined` where none is in the way. */
function closedFolder(path: string, identity: Identity): string | undefined {
  const folder = dirname(resolve(path));
  if (folder === resolve(path)) return undefined;
  return closedFolder(folder, identity) ?? (mayAccess(folder, SEARCH, identity) ? undefined : folder);
}

/** The names of what an earlier run, as root, may have left in a folder. */
function ownFiles({ subnetFile, controlSocket }: FlanneldOptions, folder: string): string[] {
  return [subnetFile, snapshotPath(subnetFile), controlSocket, handoverPath(controlSocket)]
    .map((path) => resolve(path))
    .filter((path) => dirname(path) === folder)
    .map((path) => basename(path));
}

/**
 * The kernel asks for CAP_NET_ADMIN besides, so most systems let everybody open the device; where it is root's alone, as
 * in containers, the user's group may as well.
 */
function openTunTo(identity: Identity): void {
  const file = statSync(TUN, { throwIfNoEntry: false });
  if (file === undefined || file.gid !== 0 || mayAccess(TUN, READ | WRITE, identity)) return;
  try {
    chownSync(TUN, -1, identity.gid);
    chmodSync(TUN, 0o660);
  } catch (error) {
    throw new FlannelError('HOST', `cannot open ${TUN} to the user of --user: ${errorMessage(error)}`);
  }
}
