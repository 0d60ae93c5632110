import type { Backend } from '../backend/backend.js';
import { NetworkConfigError } from '../errors.js';
import type { ExternalInterface } from '../host/external-interface.js';
import { formatIpv4, formatPrefix, prefixContains, prefixesEqual, type Ipv4Prefix } from '../packet/address.js';
import type { Lease } from '../subnet/lease.js';
import type { NetworkConfig } from '../subnet/network-config.js';
import type { LeaseRequest } from '../subnet/subnet-manager.js';

/** What start-up has found, before anything on this host is changed. */
export interface Plan {
  readonly config: NetworkConfig;
  readonly backend: Backend;
  readonly external: ExternalInterface;
  readonly request: LeaseRequest;
  readonly lease: Lease;
}

/** What other nodes send to an address inside the network would enter their tunnels again. @throws NetworkConfigError */
export function refuseLoop(config: NetworkConfig, publicIp: number): void {
  if (!prefixContains(config.network, publicIp)) return;
  throw new NetworkConfigError(
    `Network ${formatPrefix(config.network)} contains ${formatIpv4(publicIp)}, the address that other nodes are to send ` +
      'to (--public-ip): choose one apart from the other',
  );
}

/** What to ask the store for; of a node whose address has changed also by the former one. */
export function leaseRequest(
  publicIp: number,
  backend: Backend,
  previousSubnet: Ipv4Prefix | undefined,
  formerPublicIp?: number,
): LeaseRequest {
  const request = { publicIp, publicIpv6: null, ...backend.leaseAttributes(), previousSubnet };
  return formerPublicIp === undefined ? request : { ...request, formerPublicIp };
}

/** What of that which a backend is made for differs, for a log line; `undefined` when nothing does. */
export function difference(before: Plan, now: Plan): string | undefined {
  if (describe(before.config) !== describe(now.config)) return 'the network configuration has changed';
  if (describe(before.external) !== describe(now.external)) return 'the external interface has changed';
  if (!prefixesEqual(before.lease.subnet, now.lease.subnet)) {
    return `the subnet has changed from ${formatPrefix(before.lease.subnet)} to ${formatPrefix(now.lease.subnet)}`;
  }
  return before.request.publicIp === now.request.publicIp ? undefined : 'the public address has changed';
}

/** As text, to tell whether it has changed. */
export function describe(config: NetworkConfig | ExternalInterface): string {
  return JSON.stringify(config, (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
}
