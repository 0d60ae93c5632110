/** Who uses this machine, and with which rights a program runs: the addon's part in it, checked as in `native.ts`. */
import { constants } from 'node:os';
import { addon, checked, expectFd, troubleOf } from './native.js';

const { errno } = constants;

/** A user of this machine, with all of its groups. */
export interface Identity {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

/** Looks a user up by name. `undefined` when there is none. @throws FlannelError `HOST` */
export function lookUpUser(name: string): Identity | undefined {
  const found = addon().lookUpUser(name);
  if (typeof found !== 'number') return toIdentity(found);
  if (found !== -errno.ENOENT) checked(found, ({ text }) => `cannot look up the user ${name}: ${text}`);
  return undefined;
}

/** Looks a group up by name. `undefined` when there is none. @throws FlannelError `HOST` */
export function lookUpGroup(name: string): number | undefined {
  const found = addon().lookUpGroup(name);
  if (typeof found !== 'number') return found[0];
  if (found !== -errno.ENOENT) checked(found, ({ text }) => `cannot look up the group ${name}: ${text}`);
  return undefined;
}

/** Who is at the other end of a connected unix socket; `undefined` where the kernel does not say. */
export function peerIdentity(fd: number): Identity | undefined {
  expectFd('fd', fd);
  const found = addon().peerIdentity(fd);
  return typeof found === 'number' ? undefined : toIdentity(found);
}

function toIdentity([uid, gid, ...groups]: readonly number[]): Identity {
  return { uid, gid, groups };
}

/** How a program is to be executed in this process's place. */
export interface ConfinedExecution {
  /** Whose rights it has; without one it stays this process's user. */
  readonly identity?: Identity;
  /** Numbers of capabilities(7) that it keeps where this process has them; all others are gone for good. */
  readonly capabilities: readonly number[];
  /** Files that it will need: nothing is executed when one may not be read then. */
  readonly readable: readonly string[];
  /** Descriptors below this stay open. */
  readonly inheritedFds: number;
  readonly program: string;
  /** Its name included. */
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/**
 * Executes a program in this process's place, with the rights that it is to have and no way to others; see
 * `native/privileges.h`. Returns only when that failed, with what did not work: this thread has lost rights then, and
 * should do nothing but tell.
 */
export function executeConfined(execution: ConfinedExecution): string {
  const { identity, capabilities, readable, inheritedFds, program, args } = execution;
  const bits = capabilities.reduce((sum, capability) => sum | (1n << BigInt(capability)), 0n);
  const environment = Object.entries(execution.environment).map(([name, value = '']) => `${name}=${value}`);
  const [step, error] = addon().executeConfined(
    identity === undefined ? [] : [identity.uid, identity.gid, ...identity.groups],
    [Number(bits & 0xffffffffn), Number(bits >> 32n)],
    readable,
    inheritedFds,
    program,
    args,
    environment,
  );
  return `${step}: ${troubleOf(error).text}`;
}
