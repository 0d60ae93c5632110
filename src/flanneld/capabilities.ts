/** Which capabilities the daemon needs, and which rights this process has; capabilities(7). */
import { readFileSync, statSync, type Stats } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Identity } from '../dataplane/rights.js';
import { FlannelError } from '../errors.js';
import type { FlanneldOptions } from './flags.js';

/** Numbers of linux/capability.h. */
export const CAPABILITIES = {
  /** Reads and writes files whoever they belong to. */
  DAC_OVERRIDE: 1,
  /** Ports below 1024, for the tunnel or the health server. */
  NET_BIND_SERVICE: 10,
  /** The overlay device, addresses, routes, firewall rules, large socket buffers. */
  NET_ADMIN: 12,
  /** ICMP errors that the agent sends on behalf of this host. */
  NET_RAW: 13,
  /** The program that keeps each flow on its queue, where there are several (Linux 5.8). */
  BPF: 39,
} as const;

export type Capability = keyof typeof CAPABILITIES;

/** Bits of a file's mode, for one class of users. */
export const READ = 4;
export const WRITE = 2;
export const SEARCH = 1;

/** What a daemon with these flags needs as this user. */
export function neededCapabilities(options: FlanneldOptions, identity: Identity): Capability[] {
  const needed: Capability[] = ['NET_BIND_SERVICE', 'NET_ADMIN', 'NET_RAW'];
  if ((options.workers ?? 1) > 1) needed.push('BPF');
  // Root without this may not read a key that belongs to etcd's user, which every flanneld can.
  if (identity.uid === 0 && inaccessibleFiles(options, identity).length > 0) needed.push('DAC_OVERRIDE');
  return needed;
}

/** Files that the flags name and folders to be written to that plain file modes keep from a user. */
export function inaccessibleFiles(options: FlanneldOptions, identity: Identity): string[] {
  const { keyFile, certFile, caFile, passwordFile } = options.etcd;
  const read = [keyFile, certFile, caFile, passwordFile].filter((path) => path !== undefined);
  const written = runtimeFolders(options);
  return [
    ...read.filter((path) => !mayAccess(path, READ, identity)),
    ...written.filter((path) => !mayAccess(path, WRITE | SEARCH, identity)),
  ];
}

/** The folders that the daemon writes to. */
export function runtimeFolders(options: FlanneldOptions): string[] {
  return [...new Set([options.subnetFile, options.controlSocket].map((path) => dirname(resolve(path))))];
}

/**
 * Whether file modes alone let a user at a path; for one that does not exist, whether it may be made. Access lists are
 * not looked at. access(2) would answer for the capabilities that this process still has.
 */
export function mayAccess(path: string, wanted: number, identity: Identity): boolean {
  const file = statSync(path, { throwIfNoEntry: false });
  const folder = dirname(resolve(path));
  if (file === undefined) return folder === path || mayAccess(folder, WRITE | SEARCH, identity);
  if ((modeFor(file, identity) & wanted) !== wanted) return false;
  return folder === resolve(path) || mayAccess(folder, SEARCH, identity);
}

function modeFor({ mode, uid, gid }: Stats, identity: Identity): number {
  if (uid === identity.uid) return mode >> 6;
  return gid === identity.gid || identity.groups.includes(gid) ? mode >> 3 : mode;
}

/** The rights of this process's main thread. */
export interface ProcessRights {
  readonly uid: number;
  /** A bit for each capability that it has or may take back. */
  readonly permitted: bigint;
  readonly noNewPrivileges: boolean;
}

/**
 * To be asked before another agent is: it would have ended, or made room, when the first call is refused.
 * @throws FlannelError `HOST`
 */
export function assertMayAdministerNetwork(rights: ProcessRights | undefined = processRights()): void {
  if (rights === undefined || (rights.permitted & (1n << BigInt(CAPABILITIES.NET_ADMIN))) !== 0n) return;
  throw new FlannelError('HOST', '--takeover needs CAP_NET_ADMIN, which this process does not have: run as root');
}

/** proc(5), `/proc/self/status`; `undefined` where that cannot be read. */
export function processRights(): ProcessRights | undefined {
  let text: string;
  try {
    text = readFileSync('/proc/thread-self/status', 'latin1');
  } catch {
    return undefined;
  }
  const [, uid] = /^Uid:\s+(\d+)/m.exec(text) ?? [];
  const [, permitted] = /^CapPrm:\s+([0-9a-f]+)/m.exec(text) ?? [];
  const [, noNewPrivileges] = /^NoNewPrivs:\s+([01])/m.exec(text) ?? [];
  if (uid === undefined || permitted === undefined) return undefined;
  return { uid: Number(uid), permitted: BigInt(`0x${permitted}`), noNewPrivileges: noNewPrivileges === '1' };
}
