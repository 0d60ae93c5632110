/** What the tests of the subnet manager share: a manager on a real etcd that writes down what it tells. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { silentLogger } from '../../../src/log.js';
import { formatIpv4, formatPrefix } from '../../../src/packet/address.js';
import type { Ipv4Prefix } from '../../../src/packet/address.js';
import { createEtcdSubnetManager } from '../../../src/subnet/etcd/etcd-subnet-manager.js';
import type { EtcdSubnetManagerOptions } from '../../../src/subnet/etcd/etcd-subnet-manager.js';
import type { Lease } from '../../../src/subnet/lease.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config.js';
import type { LeaseRequest, LeaseWatcher, OwnLeaseWatcher } from '../../../src/subnet/subnet-manager.js';
import { ip, prefix } from '../../support/addresses.js';

export const PREFIX = '/coreos.com/network';
export const SUBNETS = `${PREFIX}/subnets/`;

/** Timings of a connection that finds out within a second that nobody answers; etcd allows its pings with {@link FAST_PINGS}. */
export const FAST = { requestTimeoutMs: 1_000, connectTimeoutMs: 500, keepaliveMs: 300, keepaliveTimeoutMs: 300 };
export const FAST_PINGS = { extraArguments: ['--grpc-keepalive-min-time=100ms'] };

export function config(json: object = { Network: '10.5.0.0/16' }) {
  return parseNetworkConfig(JSON.stringify(json), { backendTypes: ['udp'] });
}

export function request(publicIp: string, previousSubnet?: string): LeaseRequest {
  const attributes = { publicIp: ip(publicIp), publicIpv6: null, backendType: '' };
  return previousSubnet === undefined ? attributes : { ...attributes, previousSubnet: prefix(previousSubnet) };
}

export function value(publicIp: string): string {
  return `{"PublicIP":"${publicIp}","PublicIPv6":null}`;
}

export type TestManagerOptions = Partial<EtcdSubnetManagerOptions>;

export function manager(endpoints: readonly string[], options: TestManagerOptions = {}) {
  return createEtcdSubnetManager({
    endpoints,
    prefix: PREFIX,
    backendTypes: ['udp'],
    logger: silentLogger,
    ...options,
  });
}

export function subnetText(lease: Pick<Lease, 'subnet'>): string {
  return formatPrefix(lease.subnet);
}

/** Waits for something to become true, and says what did not. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  limitMs = 30_000,
): Promise<void> {
  for (const deadline = Date.now() + limitMs; !(await condition()); await sleep(20)) {
    assert.ok(Date.now() < deadline, `${what} did not come true within ${limitMs / 1000} s`);
  }
}

/** The table as a backend would hold it. */
export class Table implements LeaseWatcher {
  readonly rows = new Map<string, string>();
  snapshots = 0;
  changes = 0;

  snapshot(leases: readonly Lease[]): void {
    this.snapshots++;
    this.rows.clear();
    this.change(leases, []);
  }

  change(changed: readonly Lease[], removed: readonly Ipv4Prefix[]): void {
    this.changes++;
    for (const lease of changed) this.rows.set(subnetText(lease), formatIpv4(lease.publicIp));
    for (const subnet of removed) this.rows.delete(formatPrefix(subnet));
  }

  get object(): Record<string, string> {
    return Object.fromEntries(this.rows);
  }
}

/** What was told of the own lease, in order. */
export class Diary implements OwnLeaseWatcher {
  readonly entries: string[] = [];
  last: Lease | undefined;

  renewed(lease: Lease): void {
    this.last = lease;
    this.entries.push('renewed');
  }

  trouble(reason: string): void {
    this.entries.push(`trouble: ${reason}`);
  }

  missing(reason: string): void {
    this.entries.push(`missing: ${reason}`);
  }

  expired(): void {
    this.entries.push('expired');
  }

  addressShared(reason: string): void {
    this.entries.push(`shared: ${reason}`);
  }

  lost(reason: string): void {
    this.entries.push(`lost: ${reason}`);
  }
}
