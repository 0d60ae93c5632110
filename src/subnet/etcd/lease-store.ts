/**
 * The keys of one network in etcd, and the few things that are ever done to them. Every write to a lease's key is a
 * transaction that fails unless the key is as it was last seen, so that nobody's lease is taken by a node that slept.
 */
import type { ICompare, IKeyValue, ITxnRequest } from 'etcd3';
import type { StoreOperation } from '../subnet-manager.js';
import { checkedAnswer } from './answers.js';
import type { StoreConnection } from './store-connection.js';
import { unreachable } from './grpc-call.js';
import { entryOf, storedEntry, type SeenKey, type StoredEntry } from './stored-entry.js';
import { storeKeys } from './store-keys.js';
import { isLeaseNotFound } from './store-error.js';
import { listKeys, type Listing } from './listing.js';

/** What a write came to. */
export type WriteResult =
  | { readonly written: true; readonly entry: StoredEntry; readonly expiresAtMs?: number }
  /** The key was not as expected: here is what it is now, `undefined` when it is absent. */
  | { readonly written: false; readonly entry: StoredEntry | undefined };

/** The network configuration as it was seen. */
export interface StoredConfig {
  /** The value of `PREFIX/config`; `undefined` when the key is absent. */
  readonly text: string | undefined;
  /** The revision of the store at that moment. */
  readonly revision: string;
}

/** etcd leases of this process that are remembered. */
const REMEMBERED_GRANTS = 64;

export class LeaseStore {
  readonly configKey: string;
  /** What every lease's key begins with, the slash included. */
  readonly subnetsKey: string;
  private readonly folderBytes: number;
  private readonly granted = new Set<string>();

  constructor(
    readonly connection: StoreConnection,
    prefix: string,
    private readonly ttlSeconds: number,
  ) {
    const keys = storeKeys(prefix);
    this.configKey = keys.config;
    this.subnetsKey = keys.subnets;
    this.folderBytes = Buffer.byteLength(keys.subnets);
  }

  async config(signal: AbortSignal): Promise<StoredConfig> {
    const answer = await this.connection.call('range', { key: Buffer.from(this.configKey) }, context('get', signal));
    const found = answer.kvs.at(0);
    return { text: found?.value.toString(), revision: answer.header.revision };
  }

  /** Writes the network configuration. */
  async putConfig(text: string, signal: AbortSignal): Promise<void> {
    const put = { key: Buffer.from(this.configKey), value: Buffer.from(text) };
    await this.connection.call('txn', { success: [{ request_put: put }] }, context('txn', signal));
  }

  /** Every key below `subnets/` at one revision of the store. */
  list(signal: AbortSignal): Promise<Listing> {
    return listKeys({ connection: this.connection, folder: this.subnetsKey }, signal);
  }

  /** One key, and the revision of the store at that moment. */
  async read(name: string, signal: AbortSignal): Promise<{ entry: StoredEntry | undefined; revision: string }> {
    const answer = await this.connection.call('range', { key: this.keyOf(name) }, context('get', signal));
    const found = answer.kvs[0];
    return { entry: found === undefined ? undefined : this.entryOf(found), revision: answer.header.revision };
  }

  /** Creates a key that is absent: for a day, or as a reservation, which does not expire. */
  create(name: string, value: string, kind: 'lease' | 'reservation', signal: AbortSignal): Promise<WriteResult> {
    const absent: ICompare = { key: this.keyOf(name), target: CREATE, result: EQUAL, create_revision: 0 };
    return this.write(name, value, absent, kind, signal);
  }

  /** Writes a key anew that is still as it was seen. */
  replace(seen: SeenKey, value: string, kind: 'lease' | 'reservation', signal: AbortSignal): Promise<WriteResult> {
    return this.write(seen.name, value, this.unchanged(seen), kind, signal);
  }

  /** Deletes a key that is still as it was seen; says whether it was. */
  async remove(seen: SeenKey, signal: AbortSignal): Promise<boolean> {
    const request: ITxnRequest = {
      compare: [this.unchanged(seen)],
      success: [{ request_delete_range: { key: this.keyOf(seen.name) } }],
    };
    return (await this.connection.call('txn', request, context('txn', signal))).succeeded;
  }

  /**
   * Gives an etcd lease its full time again: when the key expires now, in ms since the epoch, or `undefined` when the
   * lease has ended and its keys with it.
   */
  async keepAlive(etcdLeaseId: string, signal: AbortSignal): Promise<number | undefined> {
    const askedAt = this.connection.clock.now();
    const ttlSeconds = await this.counted('keepalive', signal, () => this.askKeepAlive(etcdLeaseId, signal));
    return ttlSeconds > 0 ? askedAt + ttlSeconds * 1000 : undefined;
  }

  /** When an etcd lease ends, in ms since the epoch; `undefined` when it has. */
  async expiry(etcdLeaseId: string, signal: AbortSignal): Promise<number | undefined> {
    const askedAt = this.connection.clock.now();
    const request = { ID: etcdLeaseId };
    const answer = await this.connection.call('leaseTimeToLive', request, context('time-to-live', signal));
    const ttlSeconds = Number(answer.TTL);
    return ttlSeconds > 0 ? askedAt + ttlSeconds * 1000 : undefined;
  }

  /** Whether a key was written by this process, whatever became of the answer: its etcd lease is one of its own. */
  wroteHere(entry: SeenKey): boolean {
    return this.granted.has(entry.etcdLeaseId);
  }

  keyOf(name: string): Buffer {
    return Buffer.from(this.subnetsKey + name);
  }

  private entryOf(kv: IKeyValue): StoredEntry {
    return entryOf(kv, this.folderBytes);
  }

  private unchanged(seen: SeenKey): ICompare {
    return { key: this.keyOf(seen.name), target: MOD, result: EQUAL, mod_revision: seen.modRevision };
  }

  private async write(
    name: string,
    value: string,
    compare: ICompare,
    kind: 'lease' | 'reservation',
    signal: AbortSignal,
  ): Promise<WriteResult> {
    const grantedAt = this.connection.clock.now();
    const grant =
      kind === 'reservation'
        ? undefined
        : await this.connection.call('leaseGrant', { TTL: this.ttlSeconds }, context('grant', signal));
    const etcdLeaseId = grant?.ID ?? '0';
    if (grant !== undefined) this.remember(grant.ID);
    const key = this.keyOf(name);
    const request: ITxnRequest = {
      compare: [compare],
      success: [{ request_put: { key, value: Buffer.from(value), lease: etcdLeaseId } }],
      failure: [{ request_range: { key } }],
    };
    const answer = await this.connection.call('txn', request, context('txn', signal));
    const expiry = grant === undefined ? {} : { expiresAtMs: grantedAt + Number(grant.TTL) * 1000 };
    if (answer.succeeded) {
      const entry = storedEntry({ name, value, modRevision: answer.header.revision, etcdLeaseId });
      return { written: true, entry, ...expiry };
    }
    const found = answer.responses[0]?.response_range?.kvs[0];
    const entry = found === undefined ? undefined : this.entryOf(found);
    if (grant !== undefined) {
      // An answer that was lost on its way makes a second attempt find the first one's work.
      if (entry?.etcdLeaseId === etcdLeaseId) return { written: true, entry, ...expiry };
      await this.revoke(etcdLeaseId, signal);
    }
    return { written: false, entry };
  }

  private remember(etcdLeaseId: string): void {
    this.granted.add(etcdLeaseId);
    for (const oldest of this.granted) {
      if (this.granted.size <= REMEMBERED_GRANTS) return;
      this.granted.delete(oldest);
    }
  }

  /** Ends an etcd lease that no key uses; left alone it would end by itself. */
  private async revoke(etcdLeaseId: string, signal: AbortSignal): Promise<void> {
    await this.connection.call('leaseRevoke', { ID: etcdLeaseId }, context('revoke', signal)).catch(() => undefined);
  }

  private async askKeepAlive(etcdLeaseId: string, signal: AbortSignal): Promise<number> {
    const { stream, endpoint } = await this.connection.stream('leaseKeepAlive', signal);
    const cancel = () => stream.cancel();
    signal.addEventListener('abort', cancel, { once: true });
    if (signal.aborted) cancel();
    let unlimited = (): void => undefined;
    try {
      return await new Promise<number>((resolve, reject) => {
        const { clock, requestTimeoutMs } = this.connection;
        unlimited = clock.after(requestTimeoutMs, () => reject(unreachable('no answer in time')));
        stream.on('data', (answer) => {
          try {
            resolve(Number(checkedAnswer('leaseKeepAlive', { ID: etcdLeaseId }, answer).TTL));
          } catch (error) {
            reject(error instanceof Error ? error : new Error(String(error)));
          }
        });
        stream.on('error', reject);
        stream.on('end', () => reject(unreachable('etcd ended the stream')));
        stream.write({ ID: etcdLeaseId });
      });
    } catch (error) {
      signal.throwIfAborted();
      if (isLeaseNotFound(error)) return 0;
      throw this.connection.streamFailed(endpoint, error);
    } finally {
      unlimited();
      signal.removeEventListener('abort', cancel);
      stream.cancel();
    }
  }

  private async counted<T>(operation: StoreOperation, signal: AbortSignal, ask: () => Promise<T>): Promise<T> {
    try {
      const answer = await ask();
      this.connection.count(operation);
      return answer;
    } catch (error) {
      if (!signal.aborted) this.connection.count(operation, error);
      throw error;
    }
  }
}

/** etcd's numbers for what a transaction compares, and how. */
const EQUAL = 0;
const CREATE = 1;
const MOD = 2;

function context(operation: StoreOperation, signal: AbortSignal) {
  return { operation, signal };
}
