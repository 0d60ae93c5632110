/** Turns leases into entries of the forwarding table, and says once what could not be turned. */
import { setImmediate as otherWork } from 'node:timers/promises';
import type { ForwardingEntry, ForwardingTable, TableChange } from '../../dataplane/forwarding-table.js';
import type { Logger } from '../../log.js';
import { formatIpv4, formatPrefix, prefixContains, prefixesEqual, type Ipv4Prefix } from '../../packet/address.js';
import { isUnicastHost } from '../../packet/ipv4.js';
import type { Lease } from '../../subnet/lease.js';

/** Refusals remembered so that each is said once; a store full of nonsense must not fill memory. */
const MAX_REMEMBERED = 1024;

/** Leases taken in without a break: a few milliseconds. */
const PORTION = 4096;

export interface LeaseForwardingOptions {
  readonly table: ForwardingTable;
  readonly network: Ipv4Prefix;
  readonly ownSubnet: Ipv4Prefix;
  /** Every address under which peers may know this node: a lease that names one is never forwarded to. */
  readonly ownUnderlayAddresses: readonly number[];
  /** All nodes of a network use one port. */
  readonly port: number;
  readonly backendType: string;
  readonly logger: Logger;
}

/** Keeps the forwarding table at what leases say; one that cannot be forwarded to is logged once and left out. */
export class LeaseForwarding {
  private readonly own: ReadonlySet<number>;
  private readonly said = new Set<string>();

  constructor(private readonly options: LeaseForwardingOptions) {
    this.own = new Set(options.ownUnderlayAddresses);
    this.report(options.table.setOwn(options.ownSubnet));
  }

  /** Takes in the leases that are known at a start, and lets other work go on between one portion and the next. */
  async load(leases: readonly Lease[]): Promise<void> {
    for (let begin = 0; begin < leases.length; begin += PORTION) {
      if (begin > 0) await otherWork();
      this.change(leases.slice(begin, begin + PORTION), []);
    }
  }

  /** Makes `leases` the whole truth. */
  replaceAll(leases: readonly Lease[]): void {
    const entries = leases.map((lease) => this.entryOf(lease)).filter((entry) => entry !== undefined);
    this.report(this.options.table.replaceAll(entries));
  }

  /** Applies what has changed since. */
  change(changed: readonly Lease[], removed: readonly Ipv4Prefix[]): void {
    // New before old: a subnet that moved between leases of different lengths has an owner at every moment.
    for (const lease of changed) {
      const entry = this.entryOf(lease);
      if (entry === undefined) this.options.table.delete(lease.subnet);
      else this.report(this.options.table.set(entry.prefix, entry.address, entry.port));
    }
    for (const prefix of removed) this.options.table.delete(prefix);
  }

  /** `undefined` for a lease that is not to be forwarded to. */
  private entryOf(lease: Lease): ForwardingEntry | undefined {
    const { network, ownSubnet, port, backendType } = this.options;
    if (prefixesEqual(lease.subnet, ownSubnet)) {
      if (!this.own.has(lease.publicIp)) {
        this.sayOnce(
          `${formatPrefix(ownSubnet)} is this node's subnet, but its lease names ${formatIpv4(lease.publicIp)}: it stays here until ` +
            'this node has another',
        );
      }
      return undefined;
    }
    if (lease.backendType !== '' && lease.backendType !== backendType) return undefined;
    if (this.own.has(lease.publicIp)) {
      this.sayOnce(
        `the lease of ${formatPrefix(lease.subnet)} names this node's own address ${formatIpv4(lease.publicIp)}, but this node holds ` +
          `${formatPrefix(ownSubnet)}: nothing is forwarded there; release it if it is left over`,
      );
      return undefined;
    }
    if (!isUnicastHost(lease.publicIp)) {
      this.sayOnce(
        `the lease of ${formatPrefix(lease.subnet)} names ${formatIpv4(lease.publicIp)}, which is no host's address: skipped`,
      );
      return undefined;
    }
    // Each datagram would come back as a packet of the overlay, with a header more and a TTL that begins anew.
    if (prefixContains(network, lease.publicIp)) {
      this.sayOnce(
        `the lease of ${formatPrefix(lease.subnet)} names ${formatIpv4(lease.publicIp)}, which lies inside the Network ` +
          `${formatPrefix(network)}: the tunnel would lead into itself, so nothing is forwarded there; give that node ` +
          'another --public-ip',
      );
      return undefined;
    }
    return { prefix: lease.subnet, address: lease.publicIp, port };
  }

  private report(change: TableChange): void {
    for (const { longer, shorter } of change.overlaps) {
      this.sayOnce(`leases overlap: ${formatPrefix(longer)} in ${formatPrefix(shorter)}; the longer prefix wins`);
    }
    for (const { prefix, reason } of change.refused) {
      this.sayOnce(`the lease of ${formatPrefix(prefix)} cannot be forwarded to: ${reason}`);
    }
  }

  private sayOnce(message: string): void {
    if (this.said.has(message) || this.said.size >= MAX_REMEMBERED) return;
    this.said.add(message);
    this.options.logger.warn(message);
  }
}
