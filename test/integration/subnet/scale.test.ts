import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { EtcdServer } from '../../../src/lab/etcd-server.js';
import type { Lease } from '../../../src/subnet/lease.js';
import type { StoreOperation } from '../../../src/subnet/subnet-manager.js';
import { farLease, farSubnet, MOST_LEASES, putFarLeases } from '../../harness/many-leases.js';
import { config, manager, PREFIX, request, subnetText, Table, until, value } from './store.js';

const LEASES = MOST_LEASES;
let etcd: EtcdServer;

before(async () => {
  etcd = await EtcdServer.start();
});
after(() => etcd.dispose());

test('65,536 leases are listed at one revision without a call per lease, and watched', async () => {
  await putFarLeases(etcd, PREFIX, LEASES - 1);
  const requests = new Map<StoreOperation, number>();
  const observer = {
    request: (operation: StoreOperation) => void requests.set(operation, (requests.get(operation) ?? 0) + 1),
    watchRestarted() {},
    skippedKeys() {},
  };
  const one = manager(etcd.endpoints, { observer });
  const abort = new AbortController();
  try {
    const whole = config({ Network: '10.0.0.0/8', SubnetMin: '10.0.0.0' });
    const table = new Table();
    const watching = one.watchLeases(whole, table, abort.signal);
    await until('the whole table', () => table.rows.size === LEASES - 1);
    for (const index of [0, LEASES - 2]) {
      const row = table.rows.get(farSubnet(index).replace('-', '/'));
      assert.equal(value(row ?? ''), farLease(index));
    }
    assert.ok((requests.get('range') ?? 0) <= 40, 'a page for thousands of them');
    const operations = [...requests.keys()].filter((operation) => operation !== 'range' && operation !== 'watch');
    assert.deepEqual(operations, [], 'nothing is asked per lease');

    const last: Lease = await one.acquireLease(whole, request('192.168.64.3'), abort.signal);
    assert.equal(subnetText(last), '10.0.0.0/24');
    await until('the last one', () => table.rows.size === LEASES);
    await assert.rejects(one.acquireLease(whole, request('192.168.64.4'), abort.signal), /out of subnets/);
    abort.abort();
    await watching;
  } finally {
    abort.abort();
    one.close();
  }
});
