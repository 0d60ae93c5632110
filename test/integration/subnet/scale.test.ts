import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { EtcdServer } from '../../../src/lab/etcd-server.js';
import { formatIpv4 } from '../../../src/packet/address.js';
import type { Lease } from '../../../src/subnet/lease.js';
import type { StoreOperation } from '../../../src/subnet/subnet-manager.js';
import { config, ip, manager, request, subnetText, SUBNETS, Table, until, value } from './store.js';

const LEASES = 65_536;
const BATCH = 128;
let etcd: EtcdServer;

before(async () => {
  etcd = await EtcdServer.start();
});
after(() => etcd.dispose());

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

async function fill(from: number, to: number): Promise<void> {
  const first = ip('10.0.0.0');
  for (let start = from; start < to; start += BATCH) {
    const success = Array.from({ length: Math.min(BATCH, to - start) }, (_, index) => {
      const key = `${SUBNETS}${formatIpv4(first + (start + index) * 256)}-24`;
      return { request_put: { key: base64(key), value: base64(value(formatIpv4(ip('172.16.0.1') + start + index))) } };
    });
    await etcd.call('/v3/kv/txn', { success });
  }
}

test('65,536 leases are listed at one revision without a call per lease, and watched', async () => {
  await fill(0, LEASES - 1);
  const requests = new Map<StoreOperation, number>();
  const observer = {
    request: (operation: StoreOperation) => void requests.set(operation, (requests.get(operation) ?? 0) + 1),
    watchRestarted() {},
    skippedEntry() {},
  };
  const one = manager(etcd.endpoints, { observer });
  const abort = new AbortController();
  try {
    const whole = config({ Network: '10.0.0.0/8', SubnetMin: '10.0.0.0' });
    const table = new Table();
    const watching = one.watchLeases(whole, table, abort.signal);
    await until('the whole table', () => table.rows.size === LEASES - 1);
    assert.equal(table.rows.get('10.255.254.0/24'), formatIpv4(ip('172.16.0.1') + LEASES - 2));
    assert.ok((requests.get('range') ?? 0) <= 7, 'a few pages');
    const operations = [...requests.keys()].filter((operation) => operation !== 'range' && operation !== 'watch');
    assert.deepEqual(operations, [], 'nothing is asked per lease');

    const last: Lease = await one.acquireLease(whole, request('192.168.64.3'), abort.signal);
    assert.equal(subnetText(last), '10.255.255.0/24');
    await until('the last one', () => table.rows.size === LEASES);
    await assert.rejects(one.acquireLease(whole, request('192.168.64.4'), abort.signal), /out of subnets/);
    abort.abort();
    await watching;
  } finally {
    abort.abort();
    one.close();
  }
});
