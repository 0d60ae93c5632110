/**
 * `subnet.env`: the file by which Docker, the CNI plugin and scripts learn this node's subnet. They source it from a
 * shell at any moment, so that it is replaced whole or not at all.
 */
import { readFile } from 'node:fs/promises';
import { fileErrorMessage, FlannelError } from '../errors.js';
import { replaceFile } from '../replace-file.js';
import { formatIpv4, formatPrefix, parseIpv4, prefixOf } from '../packet/address.js';
import type { Ipv4Prefix } from '../packet/address.js';

/** What the file says. */
export interface SubnetEnv {
  readonly network: Ipv4Prefix;
  /** The node's subnet; the file holds its first usable address, 10.5.34.1/24 for 10.5.34.0/24. */
  readonly subnet: Ipv4Prefix;
  readonly mtuBytes: number;
  readonly ipMasq: boolean;
}

/** Writes the text of the file, byte for byte as flannel does. */
export function formatSubnetEnv({ network, subnet, mtuBytes, ipMasq }: SubnetEnv): string {
  return [
    `FLANNEL_NETWORK=${formatPrefix(network)}`,
    `FLANNEL_SUBNET=${formatIpv4(subnet.address + 1)}/${subnet.length}`,
    `FLANNEL_MTU=${mtuBytes}`,
    `FLANNEL_IPMASQ=${ipMasq}`,
    '',
  ].join('\n');
}

/**
 * Reads the text of a file, whoever wrote it: unknown lines, comments, quotes and `export` are passed over, and what is
 * missing or makes no sense is left out.
 */
export function parseSubnetEnv(text: string): Partial<SubnetEnv> {
  const values = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const match = /^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(["']?)(.*?)\2\s*$/.exec(line);
    if (match !== null) values.set(match[1], match[3]);
  }
  const network = readPrefix(values.get('FLANNEL_NETWORK'));
  const subnet = readPrefix(values.get('FLANNEL_SUBNET'));
  const mtu = values.get('FLANNEL_MTU') ?? '';
  const ipMasq = values.get('FLANNEL_IPMASQ');
  return {
    ...(network === undefined ? {} : { network }),
    ...(subnet === undefined ? {} : { subnet }),
    ...(/^[1-9][0-9]{0,4}$/.test(mtu) ? { mtuBytes: Number(mtu) } : {}),
    ...(ipMasq === 'true' || ipMasq === 'false' ? { ipMasq: ipMasq === 'true' } : {}),
  };
}

/**
 * Replaces the file, mode 0644; a missing folder is created.
 * @throws FlannelError `HOST`
 */
export async function writeSubnetEnv(path: string, env: SubnetEnv): Promise<void> {
  try {
    await replaceFile(path, formatSubnetEnv(env), 0o644);
  } catch (error) {
    throw new FlannelError('HOST', `subnet file ${path} cannot be written: ${fileErrorMessage(error)}`, {
      cause: error,
    });
  }
}

/**
 * Reads the file of an earlier run; empty when there is none.
 * @throws FlannelError `HOST` when there is one that cannot be read
 */
export async function readSubnetEnv(path: string): Promise<Partial<SubnetEnv>> {
  try {
    return parseSubnetEnv(await readFile(path, 'utf8'));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return {};
    throw new FlannelError('HOST', `subnet file ${path} cannot be read: ${fileErrorMessage(error)}`, { cause: error });
  }
}

function readPrefix(text: string | undefined): Ipv4Prefix | undefined {
  const match = /^([0-9.]+)\/([0-9]{1,2})$/.exec(text ?? '');
  const address = match === null ? undefined : parseIpv4(match[1]);
  const length = Number(match?.[2]);
  return address === undefined || length > 32 ? undefined : prefixOf(address, length);
}
