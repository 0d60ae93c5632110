/**
 * Which `flannelN` belongs to a network, and whether its route may be put in place. The device is persistent: a daemon
 * that starts again finds it, by its alias, with address and route as they were, and keeps it.
 */
import { FlannelError } from '../../errors.js';
import type { HostInterface } from '../../host/interfaces.js';
import { linkAlias } from '../../host/link.js';
import type { Route } from '../../host/routes.js';
import { formatPrefix, prefixesEqual, type Ipv4Prefix } from '../../packet/address.js';

const OVERLAY_NAME = /^flannel\d+$/;

/** A device to open: the one that carries the network's alias, or the first `flannelN` that is free. */
export function chooseOverlayDevice(
  interfaces: readonly Pick<HostInterface, 'name' | 'alias'>[],
  networkId: string,
): { readonly name: string; readonly exists: boolean } {
  const alias = linkAlias(networkId);
  const own = interfaces.find((device) => OVERLAY_NAME.test(device.name) && device.alias === alias);
  if (own !== undefined) return { name: own.name, exists: true };
  const taken = new Set(interfaces.map((device) => device.name));
  let number = 0;
  while (taken.has(`flannel${number}`)) number++;
  return { name: `flannel${number}`, exists: false };
}

/**
 * Refuses to take the route to the Network from a device that somebody is using. A device without carrier is a TUN
 * that no process holds: its daemon is dead, and its route may be replaced.
 * @throws FlannelError `BACKEND` naming the device
 */
export function assertRouteIsFree(routes: readonly Route[], network: Ipv4Prefix, ownDevice: string): void {
  const holder = routes.find(
    (route) =>
      prefixesEqual(route.destination, network) &&
      route.device !== undefined &&
      route.device !== ownDevice &&
      !route.linkDown,
  );
  if (holder === undefined) return;
  const text = formatPrefix(network);
  throw new FlannelError(
    'BACKEND',
    `the Network ${text} is routed to ${holder.device} already: stop what uses that device, or delete the route with ` +
      `\`ip route delete ${text} dev ${holder.device}\``,
  );
}
