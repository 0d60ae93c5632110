/** Listings in small pages, of an etcd that changes and is compacted between one page and the next. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { EtcdServer } from '../../../src/lab/etcd-server.js';
import { EtcdConnection } from '../../../src/subnet/etcd/connection.js';
import { listKeys, type Listing } from '../../../src/subnet/etcd/listing.js';
import { DEFAULT_TIMINGS, etcdTargets } from '../../../src/subnet/etcd/options.js';
import type { CallContext, Calls } from '../../../src/subnet/etcd/store-connection.js';
import { StoreError } from '../../../src/subnet/etcd/store-error.js';
import { prefixEnd } from '../../../src/subnet/etcd/store-keys.js';
import { watch } from '../../../src/subnet/etcd/watch-stream.js';
import { PREFIX, SUBNETS, until, value } from './store.js';

const PAGE_SIZE = 3;
const NAMES = Array.from({ length: 10 }, (_, index) => `10.5.${100 + index}.0-24`);

let etcd: EtcdServer;

before(async () => {
  etcd = await EtcdServer.start();
});
after(() => etcd.dispose());
beforeEach(async () => {
  await etcd.delete(PREFIX, { prefix: true });
  for (const name of NAMES) await etcd.put(SUBNETS + name, value('192.168.64.1'));
});

/** Lets something happen before each page but the first of all. */
class InterruptedConnection extends EtcdConnection {
  pages = 0;

  constructor(private readonly between: (page: number) => Promise<unknown>) {
    super({ targets: etcdTargets({ endpoints: etcd.endpoints, prefix: PREFIX }), timings: DEFAULT_TIMINGS });
  }

  override async call<M extends keyof Calls>(
    method: M,
    request: Calls[M][0],
    context: CallContext,
  ): Promise<Calls[M][1]> {
    if (this.pages++ > 0) await this.between(this.pages);
    return super.call(method, request, context);
  }
}

/** Lists with interruptions, and looks at the outcome while the connection is open. */
async function listInterrupted(
  between: (page: number) => Promise<unknown>,
  look: (listing: Promise<Listing>, connection: InterruptedConnection, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const connection = new InterruptedConnection(between);
  const over = new AbortController();
  try {
    const listing = listKeys({ connection, folder: SUBNETS, pageSize: PAGE_SIZE }, over.signal);
    await look(listing, connection, over.signal);
  } finally {
    over.abort();
    connection.close();
  }
}

async function compact(): Promise<void> {
  const { header } = (await etcd.call('/v3/kv/range', { key: 'YQ==' })) as { header: { revision: string } };
  await etcd.call('/v3/kv/compaction', { revision: header.revision, physical: true });
}

const names = ({ entries }: Listing): string[] => entries.map(({ name }) => name);

test('changes between two pages do not show in the listing, and a watch from its revision on tells of each', async () => {
  const [moved, gone, come] = [NAMES[8], NAMES[5], '10.5.103.128-25'];
  const change = async (page: number): Promise<void> => {
    if (page !== 2) return;
    await etcd.put(SUBNETS + moved, value('192.168.64.2'));
    await etcd.delete(SUBNETS + gone);
    await etcd.put(SUBNETS + come, value('192.168.64.3'));
  };
  await listInterrupted(change, async (listing, connection, signal) => {
    const { entries, revision } = await listing;
    assert.deepEqual(
      entries.map((entry) => [entry.name, entry.value]),
      NAMES.map((name) => [name, value('192.168.64.1')]),
    );
    assert.equal(connection.pages, 4);
    const told: string[] = [];
    const watching = watch(
      connection,
      {
        key: Buffer.from(SUBNETS),
        rangeEnd: prefixEnd(SUBNETS),
        afterRevision: revision,
        events: (events) => void told.push(...events.map(({ kv }) => kv.key.toString().slice(SUBNETS.length))),
      },
      signal,
    );
    await Promise.race([watching, until('three changes', () => told.length === 3)]);
    assert.deepEqual(told, [moved, gone, come]);
  });
});

test('a listing whose revision is compacted between two pages begins anew', async () => {
  const change = async (page: number): Promise<void> => {
    if (page !== 3) return;
    await etcd.delete(SUBNETS + NAMES[0]);
    await compact();
  };
  await listInterrupted(change, async (listing, connection) => {
    assert.deepEqual(names(await listing), NAMES.slice(1));
    // Two pages of the first, the one that is refused, and three of nine keys.
    assert.equal(connection.pages, 6);
  });
});

test('a store that is compacted before every page is given up with what it said', async () => {
  const change = async (): Promise<void> => {
    await etcd.put(SUBNETS + NAMES[9], value('192.168.64.4'));
    await compact();
  };
  await listInterrupted(change, async (listing, connection) => {
    await assert.rejects(listing, (error) => error instanceof StoreError && /has been compacted/.test(error.message));
    assert.equal(connection.pages, 10, 'five tries of two pages');
  });
});
