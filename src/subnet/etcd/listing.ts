/**
 * Every key of a network at one revision of the store, page by page: what is decoded in one go is little, so that the
 * agent goes on answering while it reads tens of thousands of leases. Changes between two pages do not show. Where the
 * revision is compacted away between them, the listing begins anew.
 */
import type { IRangeRequest, IRangeResponse } from 'etcd3';
import type { StoreConnection } from './store-connection.js';
import { isAnswerTooLarge, isRevisionGone } from './store-error.js';
import { prefixEnd } from './store-keys.js';
import { entryOf, type StoredEntry } from './stored-entry.js';

/** Every key below a folder at one revision of the store. */
export interface Listing {
  readonly entries: readonly StoredEntry[];
  /** Watching from the one after it misses nothing. */
  readonly revision: string;
}

export interface ListingOptions {
  readonly connection: StoreConnection;
  /** What the keys begin with, the slash included. */
  readonly folder: string;
  /** Keys in one answer, at most. */
  readonly pageSize?: number;
}

/** Fewer cost etcd more, which counts what is left anew for each page. */
const PAGE_SIZE = 2000;
/** A page that is larger than an answer may be is asked for again with so many times fewer keys. */
const SMALLER_PAGE_FACTOR = 8;
const PAGE_TIMEOUT_MS = 30_000;
/** Of a store that is compacted again and again while it is listed. */
const ATTEMPTS = 5;

/**
 * Lists the keys below a folder, in their order.
 * @throws StoreError
 */
export async function listKeys(options: ListingOptions, signal: AbortSignal): Promise<Listing> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await listOnce(options, signal);
    } catch (error) {
      if (!isRevisionGone(error) || attempt === ATTEMPTS) throw error;
    }
  }
}

async function listOnce({ connection, folder, pageSize = PAGE_SIZE }: ListingOptions, signal: AbortSignal) {
  const folderBytes = Buffer.byteLength(folder);
  const entries: StoredEntry[] = [];
  let request: IRangeRequest = { key: Buffer.from(folder), range_end: prefixEnd(folder), limit: pageSize };
  for (;;) {
    const { page, limit } = await askPage(connection, request, signal);
    for (const kv of page.kvs) entries.push(entryOf(kv, folderBytes));
    const revision = request.revision?.toString() ?? page.header.revision;
    const last = page.kvs.at(-1);
    if (!page.more || last === undefined) return { entries, revision };
    // The next page begins right behind the last key of this one, at the same revision.
    request = { ...request, key: Buffer.concat([last.key, Buffer.alloc(1)]), limit, revision };
  }
}

/** One page, and how many keys fit into an answer: values that are no leases may be of any size. */
async function askPage(
  connection: StoreConnection,
  request: IRangeRequest,
  signal: AbortSignal,
): Promise<{ readonly page: IRangeResponse; readonly limit: number }> {
  for (let limit = Number(request.limit); ; limit = Math.ceil(limit / SMALLER_PAGE_FACTOR)) {
    try {
      const context = { operation: 'range', signal, timeoutMs: PAGE_TIMEOUT_MS } as const;
      return { page: await connection.call('range', { ...request, limit }, context), limit };
    } catch (error) {
      if (!isAnswerTooLarge(error) || limit === 1) throw error;
    }
  }
}
