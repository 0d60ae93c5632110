/**
 * The backends that exist, and what each demands of a network configuration, whatever the machine. Apart from the
 * backends themselves, so that what only checks a configuration (`flannelctl network check`) loads no dataplane.
 */
import type { NetworkConfig } from '../subnet/network-config.js';
import { checkUdpConfig } from './udp/udp-config.js';

const CHECKS: Readonly<Record<string, (config: NetworkConfig) => void>> = { udp: checkUdpConfig };

/** The names that `Backend.Type` may have. */
export const BACKEND_TYPES: readonly string[] = Object.keys(CHECKS);

/**
 * Refuses a configuration that its own backend cannot serve on any machine.
 * @throws NetworkConfigError
 */
export function checkBackendConfig(config: NetworkConfig): void {
  CHECKS[config.backend.type]?.(config);
}
