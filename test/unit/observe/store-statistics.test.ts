import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { StoreStatistics } from '../../../src/observe/store-statistics.js';

describe('the store statistics', () => {
  test('count requests by operation and result', () => {
    const statistics = new StoreStatistics();
    statistics.request('range', 'ok');
    statistics.request('range', 'ok');
    statistics.request('range', 'error', 'no leader');
    statistics.request('txn', 'ok');
    assert.deepEqual(
      [...statistics.requests()],
      [
        { operation: 'range', result: 'ok', count: 2 },
        { operation: 'range', result: 'error', count: 1 },
        { operation: 'txn', result: 'ok', count: 1 },
      ],
    );
  });

  test('call the store healthy by its last answer, and remember the last error', () => {
    const statistics = new StoreStatistics();
    const before = statistics.health(['http://a'], '/p');
    assert.deepEqual([before.healthy, before.lastContactAt, before.lastError], [false, undefined, undefined]);
    statistics.request('get', 'ok');
    assert.equal(statistics.health([], '/p').healthy, true);
    statistics.request('get', 'error', 'connection refused');
    assert.equal(statistics.health([], '/p').healthy, false);
    statistics.request('get', 'ok');
    const after = statistics.health([], '/p');
    assert.deepEqual([after.healthy, after.lastError], [true, 'connection refused']);
    assert.match(after.lastContactAt ?? '', /^\d{4}-\d\d-\d\dT/);
  });

  test('tell how many keys are skipped now, and count every restart of the watch', () => {
    const statistics = new StoreStatistics();
    for (const count of [1, 7, 2]) statistics.skippedKeys(count);
    statistics.watchRestarted();
    statistics.watchRestarted();
    const { skippedEntries, watchRestarts } = statistics.health([], '/p');
    assert.deepEqual([skippedEntries, watchRestarts], [2, 2]);
  });
});
