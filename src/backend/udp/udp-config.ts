import { NetworkConfigError } from '../../errors.js';
import type { NetworkConfig } from '../../subnet/network-config.js';

/**
 * Refuses what the udp backend cannot carry on any machine.
 * @throws NetworkConfigError
 */
export function checkUdpConfig(config: NetworkConfig): void {
  if (!config.enableIpv4) {
    throw new NetworkConfigError('EnableIPv4 is false, but the udp backend carries IPv4 only: set it to true');
  }
  if (config.enableIpv6) {
    throw new NetworkConfigError('EnableIPv6 is true, but the udp backend carries IPv4 only: set it to false');
  }
}
