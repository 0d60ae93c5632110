import type { Ipv4Prefix } from '../packet/address.js';

/** The owner of a subnet and what its backend tells the other nodes: what stands in the store under a lease's key. */
export interface LeaseAttributes {
  /** Where the owner is reached on the underlay. */
  readonly publicIp: number;
  readonly publicIpv6: string | null;
  /** Empty when the store names none, as flannel's udp backend leaves it: see `backendTypeOf`. */
  readonly backendType: string;
  /** What the backend stores beside the address (`{"VNI":1,"VtepMAC":…}` for vxlan); `undefined` for udp. */
  readonly backendData?: unknown;
  /** The same for a backend's IPv6 half. */
  readonly backendV6Data?: unknown;
}

/** Who owns a subnet, as the store has it under `PREFIX/subnets/`. */
export interface Lease extends LeaseAttributes {
  readonly subnet: Ipv4Prefix;
  /** The IPv6 half of a dual-stack key (`fc00::/64`), kept so that writing the key back loses nothing. */
  readonly ipv6Subnet?: string;
  /**
   * When the store will drop the lease, in milliseconds since the epoch by this host's clock. `undefined` when that is
   * not known here: the expiry of other nodes' leases costs a request each, so only our own is tracked.
   */
  readonly expiresAtMs?: number;
  /** The key has no expiry in the store: an operator reserved the subnet for this owner. */
  readonly reserved: boolean;
}

/** The backend that a lease belongs to: `udp` where the store names none. */
export function backendTypeOf(attributes: Pick<LeaseAttributes, 'backendType'>): string {
  return attributes.backendType === '' ? 'udp' : attributes.backendType;
}

/** A lease as its key and its value say it. Most have nothing but an owner, and a network has tens of thousands of them. */
export function leaseFrom(
  { subnet, ipv6Subnet }: Pick<Lease, 'subnet' | 'ipv6Subnet'>,
  attributes: LeaseAttributes,
  reserved: boolean,
): Lease {
  const { publicIp, publicIpv6, backendType, backendData, backendV6Data } = attributes;
  const lease = { subnet, publicIp, publicIpv6, backendType, reserved };
  if (ipv6Subnet === undefined && backendData === undefined && backendV6Data === undefined) return lease;
  return { ...lease, ...attributesOf(attributes), ...(ipv6Subnet === undefined ? {} : { ipv6Subnet }) };
}

/** The part of a lease that stands in the store under its key. */
export function attributesOf(source: LeaseAttributes): LeaseAttributes {
  const { publicIp, publicIpv6, backendType, backendData, backendV6Data } = source;
  return {
    publicIp,
    publicIpv6,
    backendType,
    ...(backendData === undefined ? {} : { backendData }),
    ...(backendV6Data === undefined ? {} : { backendV6Data }),
  };
}
