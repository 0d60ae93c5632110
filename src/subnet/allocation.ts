/** Which subnet a node may take: pure, so that every rule can be tested without a store. */
import { FlannelError } from '../errors.js';
import { formatIpv4, lastAddress } from '../packet/address.js';
import type { Ipv4Prefix } from '../packet/address.js';
import type { NetworkConfig } from './network-config.js';

/** The part of a configuration that allocation looks at. */
export type SubnetRange = Pick<NetworkConfig, 'subnetLength' | 'subnetMin' | 'subnetMax'>;

/** A whole number from 0 to `limit` - 1. */
export type RandomInteger = (limit: number) => number;

/** Nodes that start together rarely pick the same one out of so many, and the network still fills from its beginning. */
const CANDIDATES = 100;

/** Whether a subnet may be leased under this configuration: of the right length and within the range. */
export function subnetFits(range: SubnetRange, subnet: Ipv4Prefix): boolean {
  const { subnetLength, subnetMin, subnetMax } = range;
  return subnet.length === subnetLength && subnet.address >= subnetMin && subnet.address <= subnetMax;
}

/**
 * The first `limit` subnets of the range that share no address with any of `taken`, whatever their lengths, in
 * ascending order. Takes time for `taken` once and for the range once, not for their product.
 */
export function freeSubnets(range: SubnetRange, taken: readonly Ipv4Prefix[], limit: number): Ipv4Prefix[] {
  const size = 2 ** (32 - range.subnetLength);
  const ascending = [...taken].sort((a, b) => a.address - b.address);
  const free: Ipv4Prefix[] = [];
  let next = 0;
  // The highest address that any prefix beginning at or below the current subnet reaches: prefixes may nest.
  let reached = -1;
  for (let address = range.subnetMin; address <= range.subnetMax && free.length < limit; address += size) {
    while (next < ascending.length && ascending[next].address < address + size) {
      reached = Math.max(reached, lastAddress(ascending[next++]));
    }
    if (reached < address) free.push({ address, length: range.subnetLength });
  }
  return free;
}

/**
 * Picks one of the first hundred free subnets at random.
 * @throws FlannelError `LEASE` when none is free
 */
export function allocateSubnet(range: SubnetRange, taken: readonly Ipv4Prefix[], random: RandomInteger): Ipv4Prefix {
  const free = freeSubnets(range, taken, CANDIDATES);
  if (free.length === 0) {
    throw new FlannelError(
      'LEASE',
      `out of subnets: every /${range.subnetLength} from ${formatIpv4(range.subnetMin)} to ` +
        `${formatIpv4(range.subnetMax)} is leased; widen the range in the network configuration, or release a lease`,
    );
  }
  return free[random(free.length)];
}
