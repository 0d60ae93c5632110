/** This node's picture of all leases, kept from a listing and the changes after it. What is no lease is left out. */
import type { IEvent } from 'etcd3';
import { formatPrefix, prefixKey } from '../../packet/address.js';
import type { Ipv4Prefix } from '../../packet/address.js';
import type { Logger } from '../../log.js';
import { backendTypeOf } from '../lease.js';
import type { Lease } from '../lease.js';
import { quoted } from '../json-fields.js';
import { parseLeaseKey, type LeaseKey } from '../lease-key.js';
import type { StoreObserver } from '../subnet-manager.js';
import { CrowdedSubnet } from './crowded-subnet.js';
import { SkippedKeys } from './skipped-keys.js';
import { isRemoval } from './watch-stream.js';
import { entryName, entryOf, type StoredEntry } from './stored-entry.js';

export interface LeaseMirrorOptions {
  /** What the names of keys begin with, the slash included. */
  readonly folder: string;
  /** Leases of other backends are left out: nothing can be sent to them. */
  readonly backendType: string;
  readonly logger: Logger;
  readonly observer?: StoreObserver;
}

export class LeaseMirror {
  /** The lease of each subnet: of several keys, which differ in their IPv6 half, that of the one written last. */
  private holders = new Map<number, Lease>();
  /** Subnets that have several keys. Hardly any has. */
  private crowded = new Map<number, CrowdedSubnet>();
  private readonly skipped: SkippedKeys;
  private readonly folderBytes: number;

  constructor(private readonly options: LeaseMirrorOptions) {
    this.skipped = new SkippedKeys(options);
    this.folderBytes = Buffer.byteLength(options.folder);
  }

  /** Begins anew from a listing; returns what it holds. */
  reset(entries: readonly StoredEntry[]): Lease[] {
    this.holders = new Map();
    this.crowded = new Map();
    this.skipped.beginAnew();
    const crowded = new Set<number>();
    for (const entry of entries) {
      const lease = this.leaseIn(entry);
      if (lease === undefined) continue;
      const key = prefixKey(lease.subnet);
      if (this.holders.has(key)) crowded.add(key);
      this.holders.set(key, lease);
    }
    if (crowded.size > 0) this.putInOrder(entries, crowded);
    this.skipped.settled();
    return [...this.holders.values()];
  }

  /** Takes changes in; returns what came of them, each subnet once. */
  apply(events: readonly IEvent[]): { changed: Lease[]; removed: Ipv4Prefix[] } {
    const touched = new Map<number, Ipv4Prefix>();
    const touch = (subnet: Ipv4Prefix): void => void touched.set(prefixKey(subnet), subnet);
    for (const event of events) {
      const name = entryName(event.kv.key, this.folderBytes);
      const gone = parseLeaseKey(name);
      if (gone !== undefined && this.remove(gone)) touch(gone.subnet);
      const come = isRemoval(event) ? undefined : this.leaseIn(entryOf(event.kv, this.folderBytes));
      if (come !== undefined) {
        this.put(come);
        touch(come.subnet);
      }
      if (come !== undefined || isRemoval(event)) this.skipped.delete(name);
    }
    const changed: Lease[] = [];
    const removed: Ipv4Prefix[] = [];
    for (const [key, subnet] of touched) {
      const holder = this.holders.get(key);
      if (holder === undefined) removed.push(subnet);
      else changed.push(holder);
    }
    this.skipped.settled();
    return { changed, removed };
  }

  /** What a key holds for this backend; the key is skipped when it holds nothing. */
  private leaseIn({ name, content }: StoredEntry): Lease | undefined {
    const type = content.ok ? backendTypeOf(content.lease) : undefined;
    if (content.ok && type === this.options.backendType) return content.lease;
    this.skipped.add(name, content.ok ? `it belongs to the backend ${quoted(type)}` : content.reason);
    return undefined;
  }

  /** A listing is in the order of names: the keys of subnets that have several are put again in that of their writing. */
  private putInOrder(entries: readonly StoredEntry[], crowded: ReadonlySet<number>): void {
    const ofCrowded = entries.flatMap((entry) => {
      const lease = this.leaseIn(entry);
      if (lease === undefined || !crowded.has(prefixKey(lease.subnet))) return [];
      return [{ lease, revision: BigInt(entry.modRevision) }];
    });
    for (const key of crowded) this.holders.delete(key);
    ofCrowded.sort((a, b) => (a.revision < b.revision ? -1 : 1));
    for (const { lease } of ofCrowded) this.put(lease);
  }

  /** Takes in a lease that was written after everything else of its subnet, under a key that is not known. */
  private put(lease: Lease): void {
    const key = prefixKey(lease.subnet);
    const before = this.holders.get(key);
    this.holders.set(key, lease);
    if (before === undefined) return;
    let crowd = this.crowded.get(key);
    if (crowd === undefined) {
      crowd = new CrowdedSubnet();
      crowd.put(before);
      this.crowded.set(key, crowd);
    }
    crowd.put(lease);
  }

  /** Forgets what a key held; says whether it held anything. */
  private remove({ subnet, ipv6Subnet }: LeaseKey): boolean {
    const key = prefixKey(subnet);
    const crowd = this.crowded.get(key);
    if (crowd === undefined) {
      return this.holders.get(key)?.ipv6Subnet === ipv6Subnet && this.holders.delete(key);
    }
    if (!crowd.remove(ipv6Subnet)) return false;
    if (crowd.size <= 1) this.crowded.delete(key);
    if (crowd.holder === undefined) this.holders.delete(key);
    else this.holders.set(key, crowd.holder);
    return true;
  }
}

/** For messages: who holds what. */
export function leaseName(lease: Pick<Lease, 'subnet'>): string {
  return formatPrefix(lease.subnet);
}
