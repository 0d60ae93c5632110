/**
 * The daemon gives up what it does not need before it does anything: it takes on the rights it is to have and executes
 * itself again with them, since they could not be taken from the threads that Node has already; see
 * `native/privileges.h`. Where a service manager has done the same, nothing is left to do.
 */
import { chmodSync, chownSync, lchownSync, mkdirSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { executeConfined, lookUpGroup, lookUpUser, type Identity } from '../dataplane/native.js';
import { FlannelError, UsageError, errorMessage } from '../errors.js';
import {
  CAPABILITIES,
  READ,
  WRITE,
  inaccessibleFiles,
  mayAccess,
  neededCapabilities,
  processRights,
  runtimeFolders,
  type Capability,
} from './capabilities.js';
import type { FlanneldOptions } from './flags.js';

/** Holds the pid of a process that has been here before, so that it does not come again whatever the kernel made of it. */
export const CONFINED_MARK = '_FLANNELD_CONFINED';

const OWN_FOLDER = '/run/flannel';
const TUN = '/dev/net/tun';

/**
 * Gives this process the user of `--user`, and the capabilities that it needs and no others. Where that takes a new
 * beginning, it does not return.
 * @returns what an operator should know, one line each
 * @throws UsageError for a user or group that does not exist; FlannelError `HOST` when this machine does not let it
 * become that user
 */
export function confine(options: FlanneldOptions): string[] {
  const again = process.env[CONFINED_MARK] === String(process.pid);
  Reflect.deleteProperty(process.env, CONFINED_MARK);
  if (again) return [];

  const current = currentIdentity();
  const wanted = wantedIdentity(options, current);
  const changesUser = wanted.uid !== current.uid;
  if (changesUser) prepareFor(options, wanted);
  const capabilities = neededCapabilities(options, wanted);
  const changesGroups = wanted.groups.some((gid) => gid !== current.gid && !current.groups.includes(gid));
  if (!changesUser && !changesGroups && isConfined(capabilities)) return [];

  const failure = executeConfined({
    identity: changesUser || (changesGroups && current.uid === 0) ? wanted : undefined,
    capabilities: capabilities.map((name) => CAPABILITIES[name]),
    readable: changesUser ? [process.argv[1]] : [],
    inheritedFds: 3 + passedDescriptors(),
    program: process.execPath,
    args: commandLine(),
    environment: { ...process.env, [CONFINED_MARK]: String(process.pid) },
  });
  if (changesUser) throw new FlannelError('HOST', `cannot run as the user ${options.user}: ${failure}`);
  return [`privileges that are not needed could not be given up: ${failure}`];
}

function currentIdentity(): Identity {
  return {
    uid: process.geteuid?.() ?? 0,
    gid: process.getegid?.() ?? 0,
    groups: process.getgroups?.() ?? [],
  };
}

/** The control group is one of its groups: only its members may give a file to a group. */
function wantedIdentity({ user, controlGroup }: FlanneldOptions, current: Identity): Identity {
  const identity = user === undefined ? current : lookUpUser(user);
  if (identity === undefined) throw new UsageError(`--user: there is no user ${JSON.stringify(user)} on this machine`);
  if (identity.uid !== current.uid && current.uid !== 0) {
    throw new UsageError(`--user ${user}: only root can become another user, and this is uid ${current.uid}`);
  }
  if (controlGroup === undefined) return identity;
  const gid = lookUpGroup(controlGroup);
  if (gid === undefined) {
    throw new UsageError(`--control-group: there is no group ${JSON.stringify(controlGroup)} on this machine`);
  }
  return { ...identity, groups: [...new Set([...identity.groups, gid])] };
}

/**
 * What only root can do for another user: the device, and folders that it may write to. One that exists is given to it
 * only when that is flannel's own, which service managers make for root.
 */
function prepareFor(options: FlanneldOptions, identity: Identity): void {
  for (const folder of runtimeFolders(options)) {
    try {
      const exists = statSync(folder, { throwIfNoEntry: false }) !== undefined;
      if (exists && folder !== OWN_FOLDER) continue;
      mkdirSync(folder, { recursive: true, mode: 0o755 });
      for (const name of ['.', ...readdirSync(folder)]) lchownSync(join(folder, name), identity.uid, identity.gid);
    } catch (error) {
      throw new FlannelError('HOST', `cannot make the folder ${folder} for --user: ${errorMessage(error)}`);
    }
  }
  const [path] = inaccessibleFiles(options, identity);
  if (path === undefined) return openTunTo(identity);
  throw new FlannelError(
    'HOST',
    `the user ${options.user} of --user may not ${runtimeFolders(options).includes(path) ? 'write to' : 'read'} ${path}: ` +
      `give it to that user, as with \`chown ${options.user} ${path}\``,
  );
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

/**
 * Whether a service manager has arranged it. The shipped unit gives CAP_BPF whatever `--workers` says: to be rid of that
 * alone would take a second start, for which packets wait.
 */
function isConfined(capabilities: readonly Capability[]): boolean {
  const rights = processRights();
  if (rights === undefined) return false;
  const kept = [...capabilities, 'BPF' as const].reduce((sum, name) => sum | (1n << BigInt(CAPABILITIES[name])), 0n);
  return rights.noNewPrivileges && (rights.permitted & ~kept) === 0n;
}

/** Descriptors that a service manager passes, from number 3 on: sd_listen_fds(3). */
function passedDescriptors(): number {
  const { LISTEN_PID: pid, LISTEN_FDS: count } = process.env;
  return pid === String(process.pid) && /^\d{1,4}$/.test(count ?? '') ? Number(count) : 0;
}

/** As this process was started, Node's own options included. */
function commandLine(): string[] {
  return readFileSync('/proc/self/cmdline', 'utf8').split('\0').slice(0, -1);
}
