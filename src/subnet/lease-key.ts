/**
 * The names of leases under `PREFIX/subnets/`: `10.5.34.0-24`, and `10.5.34.0-24&fc00::-64` for a dual-stack node. A
 * slash would make another level of the name, so a dash stands in its place.
 */
import { formatIpv4, parseIpv4, prefixOf } from '../packet/address.js';
import type { Ipv4Prefix } from '../packet/address.js';
import { parseIpv6Prefix } from './ipv6-prefix.js';

export interface LeaseKey {
  readonly subnet: Ipv4Prefix;
  /** As it stands in the name but with a slash: `fc00::/64`. */
  readonly ipv6Subnet?: string;
}

const KEY = /^([0-9.]+)-([1-9][0-9]?)(?:&([0-9a-f:.]+)-(0|[1-9][0-9]{0,2}))?$/;

/**
 * Reads the last part of a lease's key. `undefined` for a name that no flannel writes: leading zeros, host bits that are
 * set, a length of 0 or above 31.
 */
export function parseLeaseKey(name: string): LeaseKey | undefined {
  const match = KEY.exec(name);
  if (match === null) return undefined;
  const address = parseIpv4(match[1]);
  const length = Number(match[2]);
  if (address === undefined || length > 31) return undefined;
  const subnet = prefixOf(address, length);
  if (subnet.address !== address) return undefined;
  if (match[3] === undefined) return { subnet };
  const ipv6Subnet = `${match[3]}/${match[4]}`;
  return parseIpv6Prefix(ipv6Subnet) === undefined ? undefined : { subnet, ipv6Subnet };
}

/** Writes the last part of a lease's key. */
export function formatLeaseKey({ subnet, ipv6Subnet }: LeaseKey): string {
  const ipv4 = `${formatIpv4(subnet.address)}-${subnet.length}`;
  return ipv6Subnet === undefined ? ipv4 : `${ipv4}&${ipv6Subnet.replace('/', '-')}`;
}
