/**
 * The daemon gives up what it does not need before it does anything: it takes on the rights it is to have and executes
 * itself again with them, since they could not be taken from the threads that Node has already; see
 * `native/privileges.h`. Where a service manager has done the same, nothing is left to do.
 */
import { readFileSync } from 'node:fs';
import { executeConfined, lookUpGroup, lookUpUser, type Identity } from '../dataplane/rights.js';
import { FlannelError, UsageError } from '../errors.js';
import { CAPABILITIES, neededCapabilities, processRights, type Capability } from './capabilities.js';
import type { FlanneldOptions } from './flags.js';

/**
 * Holds the pid of a process that has been here before, so that it does not come again whatever the kernel made of it; in
 * further lines what an operator is to be told.
 */
export const CONFINED_MARK = '_FLANNELD_CONFINED';

/**
 * Gives this process the user of `--user`, and the capabilities that it needs and no others. Where that takes a new
 * beginning, it does not return.
 * @returns what an operator should know, one line each
 * @throws UsageError for a user or group that does not exist; FlannelError `HOST` when this machine does not let it
 * become that user
 */
export async function confine(options: FlanneldOptions): Promise<string[]> {
  const [pid, ...told] = process.env[CONFINED_MARK]?.split('\n') ?? [];
  Reflect.deleteProperty(process.env, CONFINED_MARK);
  if (pid === String(process.pid)) return told;

  const current = currentIdentity();
  const wanted = wantedIdentity(options, current);
  const changesUser = wanted.uid !== current.uid;
  const left = changesUser ? (await import('./prepare-for-user.js')).prepareFor(options, wanted) : [];
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
    environment: { ...process.env, [CONFINED_MARK]: [process.pid, ...left].join('\n') },
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
