import { BACKEND_TYPES, checkBackendConfig } from '../backend/backend-types.js';
import { formatIpv4, formatPrefix } from '../packet/address.js';
import { formatIpv6, formatIpv6Prefix } from '../subnet/ipv6-prefix.js';
import {
  describeNetworkConfig,
  ignoredKeys,
  parseNetworkConfig,
  type NetworkConfig,
} from '../subnet/network-config.js';
import { formatFacts } from './table.js';

/**
 * Reads a configuration as flanneld does.
 * @throws NetworkConfigError with the line that flanneld would log
 */
export function readConfig(text: string): NetworkConfig {
  const config = parseNetworkConfig(text, { backendTypes: BACKEND_TYPES });
  checkBackendConfig(config);
  return config;
}

/** A configuration with its defaults, a line a key. */
export function configReport(config: NetworkConfig): string[] {
  return formatFacts(describeNetworkConfig(config));
}

/** The warning about keys that nothing reads: one line, or none. What is no configuration at all is for `readConfig` to say. */
export function ignoredKeysWarning(text: string): string[] {
  let keys: readonly string[];
  try {
    keys = ignoredKeys(text);
  } catch {
    return [];
  }
  if (keys.length === 0) return [];
  return [`flannelctl: warning: nothing reads ${keys.join(', ')} (misspelt, or of another backend?)`];
}

/** A configuration with its defaults filled in, under the keys that it is written with. */
export function effectiveConfig(config: NetworkConfig): Record<string, unknown> {
  const { ipv6, backend } = config;
  const ipv4 = config.enableIpv4
    ? {
        Network: formatPrefix(config.network),
        SubnetLen: config.subnetLength,
        SubnetMin: formatIpv4(config.subnetMin),
        SubnetMax: formatIpv4(config.subnetMax),
      }
    : {};
  const dual =
    ipv6 === undefined
      ? {}
      : {
          IPv6Network: formatIpv6Prefix(ipv6.network),
          IPv6SubnetLen: ipv6.subnetLength,
          IPv6SubnetMin: formatIpv6(ipv6.subnetMin),
          IPv6SubnetMax: formatIpv6(ipv6.subnetMax),
        };
  return {
    ...ipv4,
    EnableIPv4: config.enableIpv4,
    EnableIPv6: config.enableIpv6,
    ...dual,
    EnableNFTables: config.enableNftables,
    Backend: { Type: backend.type, Port: backend.port, MTU: backend.mtuBytes },
  };
}
