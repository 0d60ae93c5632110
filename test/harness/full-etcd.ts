/** An etcd whose database has grown to its quota, so that it takes no more writes (the alarm NOSPACE). */
import assert from 'node:assert/strict';
import type { EtcdServer } from '../../src/lab/etcd-server.js';

/** What to start an etcd with that a few megabytes fill. */
export const SMALL_QUOTA: readonly string[] = ['--quota-backend-bytes=4000000'];

const JUNK = '/junk/';

/** Writes until etcd refuses. */
export async function fill(etcd: EtcdServer): Promise<void> {
  const junk = 'j'.repeat(500_000);
  for (let index = 0; index < 100; index++) {
    try {
      await etcd.put(JUNK + index, junk);
    } catch (error) {
      assert.match(String(error), /database space exceeded/);
      return;
    }
  }
  assert.fail('etcd does not become full');
}

/** Does what the operator is told to do. */
export async function makeRoom(etcd: EtcdServer): Promise<void> {
  await etcd.delete(JUNK, { prefix: true });
  await etcd.call('/v3/kv/compaction', { revision: await revisionOf(etcd), physical: true });
  await etcd.call('/v3/maintenance/defragment', {});
  const { alarms = [] } = (await etcd.call('/v3/maintenance/alarm', { action: 'GET' })) as { alarms?: object[] };
  for (const alarm of alarms) await etcd.call('/v3/maintenance/alarm', { action: 'DEACTIVATE', ...alarm });
}

/** The store's revision as of now. */
export async function revisionOf(etcd: EtcdServer): Promise<string> {
  const { header } = (await etcd.call('/v3/kv/range', { key: 'AA==' })) as { header: { revision: string } };
  return header.revision;
}
