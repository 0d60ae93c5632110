import { FlannelError, UsageError } from '../../errors.js';
import { listInterfaces } from '../../host/interfaces.js';
import { localAddresses } from '../../host/local-addresses.js';
import { formatIpv4, formatPrefix, prefixContains } from '../../packet/address.js';
import type { ProbePlace } from './probe-node.js';

/** Where the packets of a probe say that they come from. */
export interface ProbeSource {
  readonly address: number;
  /** Whose it is, to people. */
  readonly is: string;
}

/**
 * Takes the source that was asked for, if a packet of this node may have it: an address of its lease, or one of the host's
 * own. Without one, an address in the lease that this host has itself, so that no pod gets answers to what it never asked.
 * @throws UsageError for any other; FlannelError `HOST` when this host cannot be asked
 */
export async function chooseSource(asked: number | undefined, place: ProbePlace): Promise<ProbeSource> {
  const { subnet, device } = place;
  if (asked === undefined) {
    for (const { name, addresses } of await listInterfaces()) {
      const inside = addresses.find(({ address }) => name !== device && prefixContains(subnet, address));
      if (inside !== undefined) return { address: inside.address, is: `the address of ${name} here` };
    }
    return { address: subnet.address, is: `the address of ${device} here` };
  }
  if (prefixContains(subnet, asked)) return { address: asked, is: "an address of this node's lease" };
  if ((await localAddresses()).includes(asked)) return { address: asked, is: "this host's own address" };
  throw new UsageError(
    `source ${formatIpv4(asked)} is neither in this node's lease ${formatPrefix(subnet)} nor this host's own: probe from its node`,
  );
}

/** @throws FlannelError `CONTROL` for a destination to which no packet goes through the overlay from here */
export function checkDestination(destination: number, { network, subnet }: ProbePlace): void {
  const shown = formatIpv4(destination);
  if (!prefixContains(network, destination)) {
    throw new FlannelError(
      'CONTROL',
      `${shown} is outside of the Network ${formatPrefix(network)}: the overlay does not carry it`,
    );
  }
  if (prefixContains(subnet, destination)) {
    throw new FlannelError(
      'CONTROL',
      `${shown} is in this node's own subnet ${formatPrefix(subnet)}: packets to it do not enter the overlay; probe from another node`,
    );
  }
}
