import { FlannelError, UsageError } from '../errors.js';
import {
  formatIpv4,
  formatPrefix,
  parseIpv4,
  parsePrefix,
  prefixContains,
  prefixesEqual,
  type Ipv4Prefix,
} from '../packet/address.js';
import { subnetFits } from '../subnet/allocation.js';
import type { Lease } from '../subnet/lease.js';
import type { NetworkConfig } from '../subnet/network-config.js';

/** Addresses that no node can be reached at. RFC 6890. */
const UNREACHABLE: readonly { readonly prefix: string; readonly why: string }[] = [
  { prefix: '0.0.0.0/8', why: '"this network"' },
  { prefix: '127.0.0.0/8', why: 'loopback' },
  { prefix: '224.0.0.0/4', why: 'multicast' },
  { prefix: '240.0.0.0/4', why: 'reserved' },
];

/**
 * Reads SUBNET from the command line.
 * @throws UsageError when it is no prefix, or has bits set beyond its length
 */
export function readSubnet(text: string): Ipv4Prefix {
  const subnet = parsePrefix(text);
  if (subnet === undefined) throw new UsageError(`SUBNET '${text}': expected a prefix such as 10.5.34.0/24`);
  if (formatPrefix(subnet) !== text) {
    throw new UsageError(`SUBNET '${text}' does not begin on a boundary: expected ${formatPrefix(subnet)}`);
  }
  return subnet;
}

/**
 * Reads the address of a reservation's owner from the command line.
 * @throws UsageError when it is no address that a node could be reached at
 */
export function readOwner(text: string): number {
  const address = parseIpv4(text);
  if (address === undefined) throw new UsageError(`--for '${text}': expected an IPv4 address such as 192.0.2.1`);
  for (const { prefix, why } of UNREACHABLE) {
    if (prefixContains(parsePrefix(prefix)!, address)) {
      throw new UsageError(`--for ${text} is a ${why} address: expected the one other nodes reach the owner at`);
    }
  }
  return address;
}

/**
 * Refuses a reservation that its owner could not use: of a subnet the network does not have, or a second one. Whether
 * another node is in the way is for the store to say, in one step with the write.
 * @throws FlannelError `LEASE`
 */
export function checkReservation(
  config: NetworkConfig,
  leases: readonly Lease[],
  subnet: Ipv4Prefix,
  publicIp: number,
): void {
  const owner = formatIpv4(publicIp);
  if (!subnetFits(config, subnet)) {
    throw refusal(
      `${formatPrefix(subnet)} is no subnet of this network: expected a /${config.subnetLength} from ` +
        `${formatIpv4(config.subnetMin)} to ${formatIpv4(config.subnetMax)}`,
    );
  }
  if (prefixContains(config.network, publicIp)) {
    throw refusal(
      `${owner} lies inside the network ${formatPrefix(config.network)}: expected the owner's address on the underlay`,
    );
  }
  for (const lease of leases) {
    // A lease that does not fit any more is deleted by its owner's next start, so it stands in nobody's way.
    if (lease.publicIp !== publicIp || prefixesEqual(lease.subnet, subnet) || !subnetFits(config, lease.subnet))
      continue;
    throw refusal(
      `${owner} has a subnet already: ${formatPrefix(lease.subnet)} ${wordHolder(lease)}; release that first, or reserve that one`,
    );
  }
}

/** Who holds a lease, as the end of a sentence: `was leased to 192.0.2.1`. */
export function wordHolder(lease: Lease, verb: 'is' | 'was' = 'is'): string {
  return `${verb} ${lease.reserved ? 'reserved for' : 'leased to'} ${formatIpv4(lease.publicIp)}`;
}

function refusal(message: string): FlannelError {
  return new FlannelError('LEASE', message);
}
