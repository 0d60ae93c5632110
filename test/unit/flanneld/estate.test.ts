import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AgentServers } from '../../../src/flanneld/agent-servers.js';
import { estateOf } from '../../../src/flanneld/estate.js';
import type { SnapshotFile } from '../../../src/flanneld/snapshot-file.js';
import { Node } from './memory-node.js';

test('an agent hands over nothing before it knows all leases: the next one would start from nothing', () => {
  const { options, state } = new Node();
  const known = { whole: false, current: () => 'all leases' };
  const snapshots = known as unknown as SnapshotFile;
  const servers = { descriptors: () => [] } as unknown as AgentServers;
  const estate = estateOf({ options, state, servers, snapshots, leave: () => assert.fail('nobody asks') });
  state.phase = 'ready';
  assert.equal(estate.unfit(), 'etcd has not listed the leases yet');
  known.whole = true;
  assert.equal(estate.unfit(), undefined);
  assert.equal(estate.snapshot(), 'all leases');
});
