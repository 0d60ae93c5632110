import { FlannelError } from '../errors.js';
import { formatIpv4, parseIpv4 } from '../packet/address.js';
import { runCommand, type RunCommand } from './command.js';

/** A network interface of this machine, with its IPv4 addresses in the kernel's order. */
export interface HostInterface {
  readonly name: string;
  readonly index: number;
  readonly mtuBytes: number;
  readonly up: boolean;
  /** Something is at its other end; for a TUN device, a process that has it open. */
  readonly carrier: boolean;
  readonly addresses: readonly InterfaceAddress[];
  /** What its owner wrote on it (`ip link set … alias`). */
  readonly alias?: string;
  /** `tun`, `bridge`, `veth`, …; absent for hardware. */
  readonly kind?: string;
}

export interface InterfaceAddress {
  readonly address: number;
  readonly prefixLength: number;
}

/** What `ip -json -details address show` tells of an interface, as far as it is used here. */
interface IpAddressShow {
  readonly ifname: string;
  readonly ifindex: number;
  readonly mtu: number;
  readonly flags: readonly string[];
  readonly ifalias?: string;
  readonly linkinfo?: { readonly info_kind?: string };
  readonly addr_info?: readonly { readonly family: string; readonly local?: string; readonly prefixlen: number }[];
}

/** What `ip -json` is asked for them. */
export const INTERFACES_QUERY: readonly string[] = ['-details', 'address', 'show'];

/**
 * Lists the interfaces of this machine in the order of their index.
 * @throws FlannelError `HOST` when `ip` is missing or fails
 */
export async function listInterfaces(run: RunCommand = runCommand): Promise<HostInterface[]> {
  const shown = await runIpJson<IpAddressShow>(INTERFACES_QUERY, run);
  return shown
    .filter((entry) => typeof entry.ifname === 'string')
    .map((entry) => ({
      name: entry.ifname,
      index: entry.ifindex,
      mtuBytes: entry.mtu,
      up: entry.flags.includes('UP'),
      carrier: entry.flags.includes('LOWER_UP'),
      alias: entry.ifalias,
      kind: entry.linkinfo?.info_kind,
      addresses: (entry.addr_info ?? []).flatMap((info) => {
        const address = info.family === 'inet' ? parseIpv4(info.local ?? '') : undefined;
        return address === undefined ? [] : [{ address, prefixLength: info.prefixlen }];
      }),
    }))
    .sort((a, b) => a.index - b.index);
}

/** Writes interfaces for an error message: `eth0 (192.168.1.2), eth1 (no IPv4 address)`. */
export function describeInterfaces(interfaces: readonly HostInterface[]): string {
  const texts = interfaces.map(({ name, addresses }) => {
    const shown = addresses.map(({ address }) => formatIpv4(address)).join(' ');
    return `${name} (${shown || 'no IPv4 address'})`;
  });
  return texts.join(', ') || 'no interfaces';
}

/** Runs `ip -json` and reads its answer, an array. @throws FlannelError `HOST` */
export async function runIpJson<Entry>(args: readonly string[], run: RunCommand = runCommand): Promise<Entry[]> {
  const { stdout } = await run('ip', ['-json', ...args]);
  // Nothing at all, rather than an empty array, is how some versions of iproute2 say that there is nothing.
  if (stdout.trim() === '') return [];
  try {
    return JSON.parse(stdout) as Entry[];
  } catch (error) {
    throw new FlannelError(
      'HOST',
      `\`ip -json ${args.join(' ')}\` did not answer JSON: iproute2 4.18 or newer is needed`,
      {
        cause: error,
      },
    );
  }
}
