import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AgentServers } from '../../../src/flanneld/agent-servers.js';
import { estateOf } from '../../../src/flanneld/estate.js';
import { SnapshotFile } from '../../../src/flanneld/snapshot-file.js';
import { silentLogger } from '../../../src/log.js';
import { CONFIG, Node, OWN } from './memory-node.js';

test('an agent hands over nothing before it knows all leases: the next one would start from nothing', () => {
  const { options, state } = new Node();
  const snapshots = new SnapshotFile('/nowhere/snapshot', silentLogger);
  const servers = { descriptors: () => [] } as unknown as AgentServers;
  const estate = estateOf({ options, state, servers, snapshots, leave: () => assert.fail('nobody asks') });
  state.phase = 'ready';
  assert.equal(estate.unfit(), 'etcd has not listed the leases yet');
  const known = { prefix: options.etcd.prefix, config: CONFIG, own: OWN, leases: [OWN] };
  snapshots.follow(() => known);
  assert.equal(estate.unfit(), undefined);
  assert.match(estate.snapshot() ?? '', /10\.5\.1\.0/);
});
