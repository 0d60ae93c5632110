/** Leases that change in etcd faster than in any cluster: other owners, removals, expiries, and values that are no leases. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { EtcdGateway } from '../../src/lab/etcd-gateway.js';
import { formatIpv4 } from '../../src/packet/address.js';
import { farSubnet } from '../harness/many-leases.js';
import type { Chance } from '../simulation/chance.js';

export interface LeaseStormOptions {
  readonly etcd: EtcdGateway;
  readonly prefix: string;
  /** How many subnets change, over and over: the first ones of `farSubnet`. */
  readonly subnets: number;
  readonly changesPerSecond: number;
  readonly seconds: number;
  readonly chance: Chance;
  readonly signal?: AbortSignal;
}

/** What was written. */
export interface LeaseStormAccount {
  readonly writes: number;
  /** Of the puts, those behind etcd leases that ended, and took them away, two seconds later. */
  readonly expiring: number;
  readonly seconds: number;
}

/** Changes in one transaction, and the shares of their kinds: what is left is a put for good. */
const CHANGES_A_TRANSACTION = 4;
const REMOVALS = 0.25;
const EXPIRIES = 0.25;
const NO_LEASES = 0.05;
/** The shortest that etcd grants with its usual election timeout. */
const EXPIRY_SECONDS = 2;
/** Transactions under way at a time, so that one slow one does not hold the others up. */
const UNDER_WAY = 8;
const OWNERS = 65_536;
const FIRST_OWNER = 0xac200001;

/** Returns once the last change is written and the last etcd lease has ended. */
export async function runLeaseStorm(options: LeaseStormOptions): Promise<LeaseStormAccount> {
  const { etcd, changesPerSecond, seconds, signal } = options;
  const transactions = Math.round((changesPerSecond * seconds) / CHANGES_A_TRANSACTION);
  const startedMs = performance.now();
  const elapsed = (): number => (performance.now() - startedMs) / 1000;
  const grants: string[] = [];
  let next = 0;
  let expiring = 0;

  /** One etcd lease for all that is written in one second. */
  let grant = { second: -1, id: Promise.resolve('') };
  const currentGrant = (): Promise<string> => {
    const second = Math.floor(elapsed());
    if (second !== grant.second) {
      const id = etcd.call('/v3/lease/grant', { TTL: EXPIRY_SECONDS }).then(({ ID }) => String(ID));
      void id.then((granted) => grants.push(granted));
      grant = { second, id };
    }
    return grant.id;
  };

  const writer = async (): Promise<void> => {
    while (next < transactions) {
      signal?.throwIfAborted();
      const dueMs = 1000 * ((next * CHANGES_A_TRANSACTION) / changesPerSecond - elapsed());
      next++;
      if (dueMs > 1) await sleep(dueMs);
      const lease = await currentGrant();
      const { operations, leased } = transaction(options, lease);
      expiring += leased;
      await etcd.call('/v3/kv/txn', { success: operations }).catch((error: unknown) => {
        // Its etcd lease has ended just before.
        if (!/requested lease not found/.test(String(error))) throw error;
        expiring -= leased;
      });
    }
  };
  await Promise.all(Array.from({ length: UNDER_WAY }, writer));
  const written = elapsed();
  for (const ID of grants) await untilEnded(etcd, ID);
  return { writes: transactions * CHANGES_A_TRANSACTION, expiring, seconds: written };
}

interface Operations {
  readonly operations: readonly object[];
  /** Of them behind the etcd lease. */
  readonly leased: number;
}

/** Changes of different subnets: etcd takes none twice in one transaction. */
function transaction({ prefix, subnets, chance }: LeaseStormOptions, lease: string): Operations {
  const chosen = new Set<number>();
  while (chosen.size < Math.min(CHANGES_A_TRANSACTION, subnets)) chosen.add(chance.below(subnets));
  let leased = 0;
  const operations = [...chosen].map((index) => {
    const key = base64(`${prefix}/subnets/${farSubnet(index)}`);
    const kind = chance.next();
    if (kind < REMOVALS) return { request_delete_range: { key } };
    const owner = `{"PublicIP":"${formatIpv4(FIRST_OWNER + chance.below(OWNERS))}","PublicIPv6":null}`;
    if (kind < REMOVALS + NO_LEASES) return { request_put: { key, value: base64(owner.slice(0, -1)) } };
    if (kind >= REMOVALS + NO_LEASES + EXPIRIES) return { request_put: { key, value: base64(owner) } };
    leased++;
    return { request_put: { key, value: base64(owner), lease } };
  });
  return { operations, leased };
}

async function untilEnded(etcd: EtcdGateway, ID: string): Promise<void> {
  for (;;) {
    const { TTL } = await etcd.call('/v3/lease/timetolive', { ID });
    // Of an ended one it says -1, and nothing of one that ends at this moment.
    if (TTL !== undefined && Number(TTL) < 0) return;
    await sleep(50);
  }
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
