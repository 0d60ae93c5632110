import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ForwardingTable } from '../../../src/dataplane/forwarding-table.js';
import { PacketWorker } from '../../../src/dataplane/packet-worker.js';
import type { FlannelError } from '../../../src/errors.js';
import { parsePrefix } from '../../../src/packet/address.js';
import { until } from '../../harness/until.js';

/** A worker whose descriptors are none: its thread throws each time it is started. */
function hopelessWorker(): { worker: PacketWorker; failures: string[]; givenUp: FlannelError[] } {
  const network = parsePrefix('10.5.0.0/16') ?? assert.fail();
  const table = ForwardingTable.create({ network, subnetLength: 24, workers: 2 });
  const failures: string[] = [];
  const givenUp: FlannelError[] = [];
  const worker = new PacketWorker({
    name: 'encap-0',
    data: {
      ...{ direction: 'encap', index: 0, sourceCheck: 'strict', table: table.buffer },
      ...{ tunFd: -1, socketFd: -1 },
    },
    offloads: { bits: 0 },
    onSlowPath: () => undefined,
    onStepDown: () => undefined,
    onFailure: (reason) => failures.push(reason),
    onGivenUp: (error) => givenUp.push(error),
  });
  return { worker, failures, givenUp };
}

test('a worker that can never go on is started again some times, and then given up', async () => {
  const { worker, failures, givenUp } = hopelessWorker();
  await assert.rejects(worker.started(), /packet worker encap-0 failed: .*fd.* \(6 times in a row\)$/i);
  assert.equal(failures.length, 5);
  assert.equal(givenUp.length, 1);
  const { state, restarts, failing } = worker.status();
  assert.deepEqual([state, restarts, failing?.times], ['failed', 5, 6]);
  await worker.stop();
});

test('a worker that waits to be started again can be stopped', async () => {
  const { worker, failures, givenUp } = hopelessWorker();
  await until('it waits', () => failures.length > 1 && worker.status().state === 'restarting', { everyMs: 5 });
  await worker.stop();
  assert.equal(worker.status().state, 'stopped');
  assert.deepEqual(givenUp, []);
});
