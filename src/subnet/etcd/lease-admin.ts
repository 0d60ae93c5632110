/** What an operator does with leases and the network configuration, straight in etcd, with no agent running. */
import { FlannelError } from '../../errors.js';
import { formatIpv4, formatPrefix, prefixesEqual, prefixesOverlap } from '../../packet/address.js';
import type { Ipv4Prefix } from '../../packet/address.js';
import type { Lease } from '../lease.js';
import { formatLeaseKey, parseLeaseKey } from '../lease-key.js';
import { formatLeaseValue } from '../lease-value.js';
import { EtcdConnection } from './connection.js';
import { leaseName } from './lease-mirror.js';
import { LeaseStore } from './lease-store.js';
import type { StoredEntry } from './stored-entry.js';
import { DEFAULT_TIMINGS, etcdTargets } from './options.js';
import type { EtcdOptions, EtcdTimings } from './options.js';
import { passwordSource } from './password.js';

export interface LeaseAdminOptions extends EtcdOptions {
  readonly timings?: Partial<EtcdTimings>;
}

/** Requests for the expiry of a lease under way at a time. */
const EXPIRY_REQUESTS = 64;

/**
 * Leases by hand. Every write is a compare-and-swap on what was read just before.
 *
 * ```
 * const admin = new LeaseAdmin({ endpoints: ['http://127.0.0.1:2379'], prefix: '/coreos.com/network' });
 * try {
 *   await admin.reserve({ address: 0x0a052200, length: 24 }, 0xc0a84003, signal);
 * } finally {
 *   admin.close();
 * }
 * ```
 */
export class LeaseAdmin {
  private readonly connection: EtcdConnection;
  private readonly store: LeaseStore;

  /** @throws UsageError when an endpoint makes no sense or a TLS file cannot be used */
  constructor(options: LeaseAdminOptions) {
    const { username } = options;
    const timings = { ...DEFAULT_TIMINGS, ...options.timings };
    this.connection = new EtcdConnection({
      targets: etcdTargets(options),
      username,
      password: passwordSource(options),
      timings,
    });
    this.store = new LeaseStore(this.connection, options.prefix, 0);
  }

  /**
   * Every lease of every backend, by subnet, with its expiry.
   * @throws StoreError
   */
  list(signal: AbortSignal): Promise<Lease[]> {
    return listWithExpiry(this.store, signal);
  }

  /**
   * Reserves a subnet for the node with this public IP: a key that does not expire. A lease that the node already has on
   * the subnet becomes the reservation.
   * @throws FlannelError `LEASE` when another node holds the subnet or a part of it; StoreError
   */
  async reserve(subnet: Ipv4Prefix, publicIp: number, signal: AbortSignal): Promise<Lease> {
    const { entries } = await this.store.list(signal);
    for (const entry of entries) {
      const key = parseLeaseKey(entry.name);
      if (key === undefined || !prefixesOverlap(key.subnet, subnet)) continue;
      const { content } = entry;
      if (content.ok && content.lease.publicIp === publicIp && prefixesEqual(key.subnet, subnet)) {
        return this.turnIntoReservation(entry, content.lease, signal);
      }
      throw heldBy(subnet, entry);
    }
    const attributes = { publicIp, publicIpv6: null, backendType: '' };
    const name = formatLeaseKey({ subnet });
    const result = await this.store.create(name, formatLeaseValue(attributes), 'reservation', signal);
    if (result.written) return { ...attributes, subnet, reserved: true };
    if (result.entry !== undefined) throw heldBy(subnet, result.entry);
    throw changedMeanwhile(subnet);
  }

  /**
   * Deletes the lease or reservation of a subnet and says what it was. A node that is alive takes its subnet back at once.
   * @param owner - refuse unless the subnet is held for this public IP
   * @throws FlannelError `LEASE` when nobody or somebody else holds it, or when it changed meanwhile; StoreError
   */
  async release(subnet: Ipv4Prefix, signal: AbortSignal, owner?: number): Promise<Lease | undefined> {
    const { entries } = await this.store.list(signal);
    const entry = entries.find((candidate) => {
      const key = parseLeaseKey(candidate.name);
      return key !== undefined && prefixesEqual(key.subnet, subnet);
    });
    if (entry === undefined) {
      throw new FlannelError('LEASE', `nobody holds ${formatPrefix(subnet)}: "flannelctl leases" lists what is held`);
    }
    const { content } = entry;
    if (owner !== undefined && !(content.ok && content.lease.publicIp === owner)) throw heldBy(subnet, entry);
    if (!(await this.store.remove(entry, signal))) throw changedMeanwhile(subnet);
    return content.ok ? content.lease : undefined;
  }

  /**
   * The text of the network configuration; `undefined` when there is none.
   * @throws StoreError
   */
  async networkConfigText(signal: AbortSignal): Promise<string | undefined> {
    return (await this.store.config(signal)).text;
  }

  /**
   * Puts a network configuration in place of what is there; `parseNetworkConfig` tells beforehand whether it is valid.
   * @throws StoreError
   */
  putNetworkConfig(json: string, signal: AbortSignal): Promise<void> {
    return this.store.putConfig(json, signal);
  }

  close(): void {
    this.connection.close();
  }

  private async turnIntoReservation(entry: StoredEntry, lease: Lease, signal: AbortSignal): Promise<Lease> {
    if (lease.reserved) return lease;
    const result = await this.store.replace(entry, entry.value, 'reservation', signal);
    if (!result.written) throw changedMeanwhile(lease.subnet);
    return { ...lease, reserved: true };
  }
}

/**
 * Every lease with its expiry, by subnet: one request for the list, and one for each etcd lease behind it, a few at a time.
 * @throws StoreError
 */
export async function listWithExpiry(store: LeaseStore, signal: AbortSignal): Promise<Lease[]> {
  const { entries } = await store.list(signal);
  const expiries = await expiriesOf(store, new Set(entries.map(({ etcdLeaseId }) => etcdLeaseId)), signal);
  const leases = entries.flatMap((entry): Lease[] => {
    const { content } = entry;
    if (!content.ok) return [];
    const expiresAtMs = expiries.get(entry.etcdLeaseId);
    return [expiresAtMs === undefined ? content.lease : { ...content.lease, expiresAtMs }];
  });
  return leases.sort((a, b) => a.subnet.address - b.subnet.address || a.subnet.length - b.subnet.length);
}

async function expiriesOf(store: LeaseStore, ids: Set<string>, signal: AbortSignal): Promise<Map<string, number>> {
  const expiries = new Map<string, number>();
  const waiting = ids.values();
  const worker = async () => {
    for (const id of waiting) {
      if (id === '0') continue;
      const expiresAtMs = await store.expiry(id, signal);
      if (expiresAtMs !== undefined) expiries.set(id, expiresAtMs);
    }
  };
  await Promise.all(Array.from({ length: EXPIRY_REQUESTS }, worker));
  return expiries;
}

function heldBy(subnet: Ipv4Prefix, entry: StoredEntry): FlannelError {
  const { content } = entry;
  if (!content.ok) {
    return new FlannelError(
      'LEASE',
      `${formatPrefix(subnet)} cannot be had: the key ${entry.name} is no lease, but in its way`,
    );
  }
  const { lease } = content;
  const what = `${leaseName(lease)} is ${lease.reserved ? 'reserved for' : 'leased to'} ${formatIpv4(lease.publicIp)}`;
  return new FlannelError('LEASE', `${formatPrefix(subnet)} cannot be had: ${what}`);
}

function changedMeanwhile(subnet: Ipv4Prefix): FlannelError {
  return new FlannelError('LEASE', `${formatPrefix(subnet)} has just changed hands: look again before trying again`);
}
