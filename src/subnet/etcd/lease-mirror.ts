/** This node's picture of all leases, kept from a listing and the changes after it. What is no lease is left out. */
import type { IEvent } from 'etcd3';
import { formatPrefix } from '../../packet/address.js';
import type { Ipv4Prefix } from '../../packet/address.js';
import type { Logger } from '../../log.js';
import { backendTypeOf } from '../lease.js';
import type { Lease } from '../lease.js';
import { quoted } from '../json-fields.js';
import { parseLeaseKey } from '../lease-key.js';
import { parseLeaseValue } from '../lease-value.js';
import type { StoreObserver } from '../subnet-manager.js';
import type { LeaseStore, StoredEntry } from './lease-store.js';
import { SkippedKeys } from './skipped-keys.js';

/** Either a lease, or why a key holds none. */
export type LeaseResult =
  { readonly ok: true; readonly lease: Lease } | { readonly ok: false; readonly reason: string };

/** What a key and its value say. The expiry is not among it: etcd tells it only when asked for each lease by itself. */
export function leaseOf(entry: StoredEntry): LeaseResult {
  const key = parseLeaseKey(entry.name);
  if (key === undefined) return { ok: false, reason: 'its name is no subnet (10.5.34.0-24)' };
  if (entry.omittedBytes !== undefined) return { ok: false, reason: `its value is ${entry.omittedBytes} bytes long` };
  const value = parseLeaseValue(entry.value);
  if (!value.ok) return { ok: false, reason: value.reason };
  return { ok: true, lease: { ...key, ...value.attributes, reserved: entry.etcdLeaseId === '0' } };
}

/** Whether a key was deleted or has expired. */
export function isRemoval(event: IEvent): boolean {
  // The types name the kinds Put and Delete; on the wire they are PUT and DELETE.
  return event.type.toUpperCase() === 'DELETE';
}

export interface LeaseMirrorOptions {
  readonly store: Pick<LeaseStore, 'entryOf' | 'subnetsKey'>;
  /** Leases of other backends are left out: nothing can be sent to them. */
  readonly backendType: string;
  readonly logger: Logger;
  readonly observer?: StoreObserver;
}

export class LeaseMirror {
  private leases = new Map<string, { readonly lease: Lease; readonly modRevision: string }>();
  /** The keys of a subnet, which may be held with and without an IPv6 half. */
  private namesOf = new Map<number, string[]>();
  private readonly skipped: SkippedKeys;

  constructor(private readonly options: LeaseMirrorOptions) {
    this.skipped = new SkippedKeys({ ...options, folder: options.store.subnetsKey });
  }

  /** Begins anew from a listing; returns what it holds. */
  reset(entries: readonly StoredEntry[]): Lease[] {
    this.leases = new Map();
    this.namesOf = new Map();
    this.skipped.beginAnew();
    for (const entry of entries) this.put(entry);
    this.skipped.settled();
    return [...this.namesOf.values()].map((names) => this.holder(names));
  }

  /** Takes changes in; returns what came of them, each subnet once. */
  apply(events: readonly IEvent[]): { changed: Lease[]; removed: Ipv4Prefix[] } {
    const touched = new Map<number, Ipv4Prefix>();
    for (const event of events) {
      const entry = this.options.store.entryOf(event.kv);
      const gone = this.leases.get(entry.name)?.lease;
      if (gone !== undefined) touched.set(subnetNumber(gone.subnet), gone.subnet);
      this.remove(entry.name);
      if (isRemoval(event)) this.skipped.delete(entry.name);
      else this.put(entry);
      const come = this.leases.get(entry.name)?.lease;
      if (come !== undefined) touched.set(subnetNumber(come.subnet), come.subnet);
    }
    const changed: Lease[] = [];
    const removed: Ipv4Prefix[] = [];
    for (const [number, subnet] of touched) {
      const names = this.namesOf.get(number);
      if (names === undefined) removed.push(subnet);
      else changed.push(this.holder(names));
    }
    this.skipped.settled();
    return { changed, removed };
  }

  private put(entry: StoredEntry): void {
    const result = leaseOf(entry);
    if (!result.ok) return this.skipped.add(entry.name, result.reason);
    const type = backendTypeOf(result.lease);
    if (type !== this.options.backendType) {
      return this.skipped.add(entry.name, `it belongs to the backend ${quoted(type)}`);
    }
    this.skipped.delete(entry.name);
    this.leases.set(entry.name, { lease: result.lease, modRevision: entry.modRevision });
    const number = subnetNumber(result.lease.subnet);
    const names = this.namesOf.get(number);
    if (names === undefined) this.namesOf.set(number, [entry.name]);
    else names.push(entry.name);
  }

  private remove(name: string): void {
    const known = this.leases.get(name);
    if (known === undefined) return;
    this.leases.delete(name);
    const number = subnetNumber(known.lease.subnet);
    const others = this.namesOf.get(number)?.filter((other) => other !== name) ?? [];
    if (others.length === 0) this.namesOf.delete(number);
    else this.namesOf.set(number, others);
  }

  /** The lease that was written last, of those that have one subnet. */
  private holder(names: readonly string[]): Lease {
    const known = names.map((name) => this.leases.get(name)).filter((one) => one !== undefined);
    return known.reduce((last, next) => (BigInt(next.modRevision) > BigInt(last.modRevision) ? next : last)).lease;
  }
}

/** Tells subnets apart as a number: six bits suffice for a length. */
function subnetNumber({ address, length }: Ipv4Prefix): number {
  return address * 64 + length;
}

/** For messages: who holds what. */
export function leaseName(lease: Pick<Lease, 'subnet'>): string {
  return formatPrefix(lease.subnet);
}
