import { readFile } from 'node:fs/promises';
import { errorMessage } from '../../errors.js';
import { configureLink, type LinkSettings } from '../../host/link.js';
import { listRoutes } from '../../host/routes.js';
import type { Logger } from '../../log.js';
import { formatPrefix, prefixesEqual } from '../../packet/address.js';
import { assertRouteIsFree } from './overlay-device.js';

/** Of linux/if.h. */
const IFF_UP = 1;

/**
 * Puts back what others take from the overlay device while the daemon runs: its address and the route to the Network.
 * The kernel takes routes away from a device that goes down, and network managers those that they do not know. A device
 * that is down is somebody's decision and stays down.
 */
export class LinkKeeper {
  private said: string | undefined;

  constructor(
    private readonly settings: LinkSettings,
    private readonly logger: Logger,
  ) {}

  /** Never rejects. @param localAddresses all of this host's own */
  async check(localAddresses: readonly number[]): Promise<void> {
    try {
      await this.restore(localAddresses);
    } catch (error) {
      this.sayOnce(errorMessage(error));
    }
  }

  private async restore(localAddresses: readonly number[]): Promise<void> {
    const { name, network, address } = this.settings;
    const flags = await readFile(`/sys/class/net/${name}/flags`, 'latin1').catch(() => undefined);
    // A device that was deleted is the workers' business, who notice it first.
    if (flags === undefined) return;
    if ((Number(flags) & IFF_UP) === 0) {
      this.sayOnce(`${name} is down, so pods reach no other node: run \`ip link set ${name} up\``);
      return;
    }
    const routes = await listRoutes();
    const routed = routes.some((route) => route.device === name && prefixesEqual(route.destination, network));
    if (!routed) assertRouteIsFree(routes, network, name);
    if (!routed || !localAddresses.includes(address)) {
      await configureLink(this.settings);
      this.logger.warn(`${name} had lost its address or the route to ${formatPrefix(network)}: put back`);
    }
    this.said = undefined;
  }

  private sayOnce(message: string): void {
    if (this.said === message) return;
    this.said = message;
    this.logger.warn(message);
  }
}
