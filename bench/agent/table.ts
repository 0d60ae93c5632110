/** How soon the agent's forwarding table has what etcd has: at the start, and after a change. */
import { Namespace } from '../../src/lab/namespace.js';
import { median } from '../../src/median.js';
import { Daemon } from '../../test/harness/daemon.js';
import { until } from '../../test/harness/until.js';
import type { Progress } from '../progress.js';
import type { Store } from '../site.js';
import { quantile } from '../statistics.js';
import { withPlace } from './place.js';

export interface TableOptions {
  readonly leases: number;
  readonly changes: number;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

const PREFIX = '/bench/table';
const STARTS = 5;
const LEASES_A_REQUEST = 100;
const SHOWN_EVERY = 100;
/** Where no lease of {@link farLease} is. */
const CHANGED_SUBNET = '10.255.7.0-24';

/** @returns lines for people */
export function measureTable({ leases, changes, progress, signal }: TableOptions): Promise<string[]> {
  return withPlace('table', async ({ prefix, folder, store, cleanup }) => {
    const namespace = await Namespace.create(`${prefix}-node`);
    cleanup.push(() => namespace.remove());
    await store.connect(namespace);
    await store.etcd.put(`${PREFIX}/config`, JSON.stringify({ Network: '10.0.0.0/8', Backend: { Type: 'udp' } }));
    progress.show(`writing ${leases} leases`);
    await putLeases(store, leases);

    const flags = [`--etcd-endpoints=${store.endpoint}`, `--etcd-prefix=${PREFIX}`, '--iface=mgmt0'];
    const starts: number[] = [];
    let daemon: Daemon;
    for (let start = 1; ; start++) {
      signal.throwIfAborted();
      progress.show(`start ${start} of ${STARTS}`);
      const startedAtMs = performance.now();
      daemon = new Daemon(namespace, folder, [...flags, '--iptables-forward-rules=false']);
      await until('the table is full', async () => (await tableLeases(daemon)) === leases, { everyMs: 2 });
      starts.push(performance.now() - startedAtMs);
      if (start === STARTS) break;
      await daemon.stop();
    }
    cleanup.push(() => daemon.kill());

    const delays: number[] = [];
    for (let change = 0; change < changes; change++) {
      signal.throwIfAborted();
      if (change % SHOWN_EVERY === 0) progress.show(`change ${change + 1} of ${changes}`);
      const added = change % 2 === 0;
      const askedAtMs = performance.now();
      await (added ? store.etcd.put(`${PREFIX}/subnets/${CHANGED_SUBNET}`, leaseValue(0)) : remove(store));
      const expected = added ? leases + 1 : leases;
      await until('the table follows', async () => (await tableLeases(daemon)) === expected, { everyMs: 1 });
      delays.push(performance.now() - askedAtMs);
    }
    const ms = (value: number): string => value.toFixed(1);
    return [
      `start to a table of ${leases} leases: median ${ms(median(starts))} ms, from ${ms(Math.min(...starts))} to ` +
        `${ms(Math.max(...starts))} ms (${STARTS} starts)`,
      `change in etcd, from asking for it to the table: median ${ms(median(delays))} ms, p99 ` +
        `${ms(quantile(delays, 0.99))} ms, at most ${ms(Math.max(...delays))} ms (${changes} changes)`,
    ];
  });
}

/** Leases that the agent forwards to; `undefined` before it answers. */
export async function tableLeases(daemon: Daemon): Promise<number | undefined> {
  if (!daemon.running) throw new Error(daemon.evidence);
  return daemon.status().then(
    ({ backend }) => backend?.table.leases,
    () => undefined,
  );
}

async function putLeases(store: Store, count: number): Promise<void> {
  const puts = Array.from({ length: count }, (_, index) => ({
    requestPut: { key: base64(`${PREFIX}/subnets/${farLease(index)}`), value: base64(leaseValue(index)) },
  }));
  for (let at = 0; at < puts.length; at += LEASES_A_REQUEST) {
    await store.etcd.call('/v3/kv/txn', { success: puts.slice(at, at + LEASES_A_REQUEST) });
  }
}

async function remove(store: Store): Promise<void> {
  await store.etcd.call('/v3/kv/deleterange', { key: base64(`${PREFIX}/subnets/${CHANGED_SUBNET}`) });
}

const farLease = (index: number): string => `10.${1 + (index >> 8)}.${index & 255}.0-24`;

const leaseValue = (index: number): string =>
  JSON.stringify({ PublicIP: `172.${16 + (index >> 12)}.${(index >> 4) & 255}.${1 + (index & 15)}`, PublicIPv6: null });

const base64 = (text: string): string => Buffer.from(text).toString('base64');
