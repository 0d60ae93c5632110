import { readFile } from 'node:fs/promises';
import { errorMessage, FlannelError } from '../../errors.js';
import { configureLink, type LinkSettings } from '../../host/link.js';
import { listRoutes } from '../../host/routes.js';
import type { Logger } from '../../log.js';
import { formatIpv4, formatPrefix, prefixesEqual } from '../../packet/address.js';
import { assertRouteIsFree } from './overlay-device.js';

/** Of linux/if.h. */
const IFF_UP = 1;

/**
 * Puts back what others take from the overlay device while the daemon runs: that it is up, its MTU, its address and the
 * route to the Network. The kernel takes routes away from a device that goes down, and network managers those that they
 * do not know. Who wants the overlay to rest stops the daemon.
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

  /**
   * Makes a device of an earlier run as this one wants it. That the host refuses is no failure: packets flow through it as
   * it is, and `check` puts back what they need.
   */
  async adopt(): Promise<void> {
    try {
      await configureLink(this.settings);
    } catch (error) {
      if (!(error instanceof FlannelError)) throw error;
      this.sayOnce(`${this.settings.name} stays as the last run left it: ${error.message}`);
    }
  }

  private async restore(localAddresses: readonly number[]): Promise<void> {
    const { name, network, address, mtuBytes } = this.settings;
    const [flags, mtu] = await Promise.all([this.attribute('flags'), this.attribute('mtu')]);
    // A device that was deleted is the workers' business, who notice it first.
    if (flags === undefined || mtu === undefined) return;
    const down = (flags & IFF_UP) === 0;
    const addressed = localAddresses.includes(address);
    const routes = await listRoutes();
    const routed = routes.some((route) => route.device === name && prefixesEqual(route.destination, network));
    const changes = [
      ...(down ? ['it was set down'] : []),
      ...(mtu === mtuBytes ? [] : [`its MTU was ${mtu}`]),
      // A device that is down has no local addresses and no routes; one without addresses has no routes either.
      ...(down || addressed ? [] : [`it had lost its address ${formatIpv4(address)}`]),
      ...(down || !addressed || routed ? [] : [`it had lost the route to ${formatPrefix(network)}`]),
    ];
    if (changes.length === 0) {
      this.said = undefined;
      return;
    }
    if (!routed) assertRouteIsFree(routes, network, name);
    await configureLink(this.settings);
    this.sayOnce(`somebody changed ${name}: ${changes.join(', ')}; put back`);
  }

  /** A number that sysfs shows of the device; `undefined` when there is no such device. */
  private async attribute(attribute: 'flags' | 'mtu'): Promise<number | undefined> {
    const path = `/sys/class/net/${this.settings.name}/${attribute}`;
    const text = await readFile(path, 'latin1').catch(() => undefined);
    return text === undefined ? undefined : Number(text);
  }

  /** Says it, unless it was the last thing said: a program that undoes this every time would fill the log. */
  private sayOnce(message: string): void {
    if (this.said === message) return;
    this.said = message;
    this.logger.warn(message);
  }
}
