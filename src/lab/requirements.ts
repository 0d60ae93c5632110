/** What a lab needs of the machine it runs on, looked at before anything is built. */
import { accessSync, closeSync, constants, existsSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { FlannelError } from '../errors.js';
import { commandEnvironment } from '../host/command.js';

/** Programs by the Debian package that has them. */
const PACKAGES = {
  ip: 'iproute2',
  etcd: 'etcd-server',
  ping: 'iputils-ping',
  sysctl: 'procps',
  iptables: 'iptables',
  nft: 'nftables',
  tcpdump: 'tcpdump',
  traceroute: 'traceroute',
  iperf3: 'iperf3',
  ethtool: 'ethtool',
  'c++': 'g++',
  dockerd: 'docker.io',
  docker: 'docker.io',
  busybox: 'busybox-static',
  nsenter: 'util-linux',
  unshare: 'util-linux',
} as const;

export type LabProgram = keyof typeof PACKAGES;

/** What every lab needs; its pods, checks and exercises need more. */
export const LAB_PROGRAMS: readonly LabProgram[] = ['ip', 'etcd', 'ping', 'sysctl', 'iptables'];
export const DEMO_PROGRAMS: readonly LabProgram[] = ['tcpdump', 'traceroute', 'iperf3'];
export const DOCKER_PROGRAMS: readonly LabProgram[] = ['dockerd', 'docker', 'busybox', 'nsenter', 'unshare'];

/**
 * Makes sure that namespaces can be made, entered and looked into.
 * @throws FlannelError `LAB`
 */
export function requireRoot(): void {
  if (process.getuid?.() !== 0) {
    throw new FlannelError('LAB', 'this works with network namespaces and needs root: run it with sudo');
  }
}

/**
 * Makes sure that a lab can be made here.
 * @throws FlannelError `LAB`, one line with all that is missing
 */
export function requireLabMachine(programs: readonly LabProgram[]): void {
  requireRoot();
  const missing = programs.filter((program) => !isThere(program));
  if (missing.length > 0) {
    const packages = [...new Set(missing.map((program) => PACKAGES[program]))];
    throw new FlannelError(
      'LAB',
      `missing ${missing.join(', ')}: install with "apt-get install ${packages.join(' ')}" or your system's own packages`,
    );
  }
  if (!existsSync('/dev/net/tun')) {
    throw new FlannelError('LAB', 'there is no /dev/net/tun: load the kernel module with "modprobe tun"');
  }
}

function isThere(program: LabProgram): boolean {
  const path = findProgram(program);
  // Either tool serves flanneld's rules.
  if (program === 'iptables') return path !== undefined || findProgram('nft') !== undefined;
  return path !== undefined && (program !== 'busybox' || isStatic(path));
}

/** Whether a program runs without libraries, as the only file of an image: it asks for no dynamic loader, elf(5). */
function isStatic(path: string): boolean {
  const start = Buffer.alloc(4096);
  const file = openSync(path, 'r');
  try {
    return !start.subarray(0, readSync(file, start)).includes('/ld-');
  } finally {
    closeSync(file);
  }
}

/** Where a program is, looked for where administrators' programs are as well; `undefined` when nowhere. */
export function findProgram(program: string, first: readonly string[] = []): string | undefined {
  const folders = [...first, ...(commandEnvironment().PATH ?? '').split(':')];
  return folders
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, program))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}
