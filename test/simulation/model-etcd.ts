/**
 * etcd as its API v3 documents it, as far as leases need it: revisions, transactions, leases that expire, watches from a
 * revision on, compaction; and restoring a backup. It does everything at once and never fails by itself: what goes wrong
 * on the way to it is the business of `model-connection.ts`.
 */
import type * as rpc from 'etcd3';
import type { Timeline } from './timeline.js';

export interface ModelKey {
  readonly value: string;
  readonly createRevision: number;
  readonly modRevision: number;
  /** The etcd lease, `0` for none. */
  readonly lease: string;
  /** Who wrote it last, for the checks. */
  readonly writer: string;
  /** When that was; a restored backup does not change it. */
  readonly writtenAtMs: number;
}

interface ModelLease {
  readonly ttlMs: number;
  expiresAt: number;
}

/** Somebody who is told of what happens after a revision. */
export interface Watcher {
  readonly key: string;
  /** Exclusive; absent: that key alone. */
  readonly rangeEnd?: string;
  readonly startRevision: number;
  send(response: rpc.IWatchResponse): void;
}

/** A write, for whoever checks it. `before` and `after` are `undefined` where there is no key. */
export type WriteListener = (
  actor: string,
  key: string,
  before: ModelKey | undefined,
  after: ModelKey | undefined,
) => void;

export interface Backup {
  readonly revision: number;
  readonly keys: ReadonlyMap<string, ModelKey>;
  readonly leases: ReadonlyMap<string, ModelLease>;
}

/** etcd's words for a lease that is not there. */
export const LEASE_NOT_FOUND = 'etcdserver: requested lease not found';

const EXPIRY_LAG_MS = 500;

/** What most answers to a watch have in common. */
const QUIET = {
  watch_id: '1',
  created: false,
  canceled: false,
  fragment: false,
  cancel_reason: '',
  compact_revision: '0',
  events: [],
};

export class ModelEtcd {
  readonly keys = new Map<string, ModelKey>();
  private readonly leases = new Map<string, ModelLease>();
  private readonly watchers = new Set<Watcher>();
  private history: { readonly revision: number; readonly events: rpc.IEvent[] }[] = [];
  private revision = 1;
  private compacted = 0;
  private granted = 0;

  constructor(
    private readonly timeline: Timeline,
    private readonly written: WriteListener,
  ) {}

  range({ key, range_end: end, limit, revision }: rpc.IRangeRequest): rpc.IRangeResponse {
    // Pages are read at a revision that is still the present one here, or the pager reads what has changed since.
    if (revision !== undefined && Number(revision) > this.revision)
      throw new Error('etcdserver: required revision is a future revision');
    const names = this.namesIn(text(key), end === undefined ? undefined : text(end));
    const most = limit === undefined || Number(limit) === 0 ? names.length : Number(limit);
    const kvs = names.slice(0, most).map((name) => this.keyValue(name));
    return { header: this.header(), kvs, more: names.length > most, count: String(names.length) };
  }

  txn(actor: string, { compare = [], success = [], failure = [] }: rpc.ITxnRequest): rpc.ITxnResponse {
    const succeeded = compare.every(({ key, target, create_revision: created, mod_revision: modified }) => {
      const found = this.keys.get(text(key));
      return Number(target) === 1
        ? (found?.createRevision ?? 0) === Number(created)
        : (found?.modRevision ?? 0) === Number(modified);
    });
    const events: rpc.IEvent[] = [];
    const responses = (succeeded ? success : failure).map((operation) => this.carryOut(actor, operation, events));
    this.commit(events);
    return { header: this.header(), succeeded, responses } as rpc.ITxnResponse;
  }

  grant(ttlSeconds: number): rpc.ILeaseGrantResponse {
    const id = String(1000 + ++this.granted);
    this.leases.set(id, { ttlMs: ttlSeconds * 1000, expiresAt: 0 });
    this.prolong(id);
    return { header: this.header(), ID: id, TTL: String(ttlSeconds), error: '' };
  }

  /** Gives a lease its full time again; 0 seconds when there is no such lease. */
  keepAlive(id: string): rpc.ILeaseKeepAliveResponse {
    return { header: this.header(), ID: id, TTL: String(this.prolong(id) / 1000) };
  }

  timeToLive(id: string): rpc.ILeaseTimeToLiveResponse {
    const lease = this.leases.get(id);
    const left = lease === undefined ? -1 : Math.floor((lease.expiresAt - this.timeline.now) / 1000);
    return {
      header: this.header(),
      ID: id,
      TTL: String(left),
      grantedTTL: String((lease?.ttlMs ?? 0) / 1000),
      keys: [],
    };
  }

  revoke(actor: string, id: string): rpc.ILeaseRevokeResponse {
    if (!this.leases.delete(id)) throw new Error(LEASE_NOT_FOUND);
    const events: rpc.IEvent[] = [];
    for (const [name, { lease }] of [...this.keys]) if (lease === id) this.remove(actor, name, events);
    this.commit(events);
    return { header: this.header() };
  }

  watch(watcher: Watcher): void {
    const none = { ...QUIET, header: this.header() };
    watcher.send({ ...none, created: true });
    if (watcher.startRevision <= this.compacted) {
      watcher.send({ ...none, canceled: true, compact_revision: String(this.compacted + 1) });
      return;
    }
    this.watchers.add(watcher);
    for (const { revision, events } of this.history) this.tell(watcher, revision, events);
  }

  unwatch(watcher: Watcher): void {
    this.watchers.delete(watcher);
  }

  compact(): void {
    this.compacted = this.revision;
    this.history = [];
  }

  backup(): Backup {
    const leases = [...this.leases].map(([id, lease]) => [id, { ...lease }] as const);
    return { revision: this.revision, keys: new Map(this.keys), leases: new Map(leases) };
  }

  /** Begins anew from a backup; whoever watched has to come again. Leases get their full time, as etcd gives it. */
  restore({ revision, keys, leases }: Backup): void {
    this.watchers.clear();
    this.revision = revision;
    this.compacted = revision;
    this.history = [];
    this.keys.clear();
    for (const [name, key] of keys) this.keys.set(name, key);
    this.leases.clear();
    for (const [id, lease] of leases) {
      this.leases.set(id, { ...lease });
      this.prolong(id);
    }
  }

  private prolong(id: string): number {
    const lease = this.leases.get(id);
    if (lease === undefined) return 0;
    lease.expiresAt = this.timeline.now + lease.ttlMs;
    const { expiresAt } = lease;
    this.timeline.after(lease.ttlMs + EXPIRY_LAG_MS, () => {
      if (this.leases.get(id) === lease && lease.expiresAt === expiresAt) this.revoke('etcd', id);
    });
    return lease.ttlMs;
  }

  private carryOut(actor: string, operation: rpc.IRequestOp, events: rpc.IEvent[]): object {
    const { request_put: put, request_delete_range: deletion, request_range: range } = operation;
    if (put !== undefined) {
      const name = text(put.key);
      const lease = put.lease === undefined ? '0' : String(put.lease);
      if (lease !== '0' && !this.leases.has(lease)) throw new Error(LEASE_NOT_FOUND);
      const before = this.keys.get(name);
      const modRevision = this.revision + 1;
      const createRevision = before?.createRevision ?? modRevision;
      const writtenAtMs = this.timeline.now;
      const after = { value: text(put.value), createRevision, modRevision, lease, writer: actor, writtenAtMs };
      this.keys.set(name, after);
      this.written(actor, name, before, after);
      events.push({ type: 'PUT', kv: this.keyValue(name) } as unknown as rpc.IEvent);
    }
    if (deletion !== undefined) {
      const end = deletion.range_end === undefined ? undefined : text(deletion.range_end);
      for (const name of this.namesIn(text(deletion.key), end)) this.remove(actor, name, events);
    }
    return range === undefined ? {} : { response_range: this.range(range) };
  }

  private remove(actor: string, name: string, events: rpc.IEvent[]): void {
    const before = this.keys.get(name);
    this.keys.delete(name);
    this.written(actor, name, before, undefined);
    const kv = { key: Buffer.from(name), value: Buffer.alloc(0), mod_revision: String(this.revision + 1), lease: '0' };
    events.push({ type: 'DELETE', kv } as unknown as rpc.IEvent);
  }

  private commit(events: rpc.IEvent[]): void {
    if (events.length === 0) return;
    this.revision++;
    this.history.push({ revision: this.revision, events });
    for (const watcher of [...this.watchers]) this.tell(watcher, this.revision, events);
  }

  private tell(watcher: Watcher, revision: number, events: rpc.IEvent[]): void {
    if (revision < watcher.startRevision) return;
    const wanted = events.filter(({ kv }) => isIn(text(kv.key), watcher.key, watcher.rangeEnd));
    if (wanted.length === 0) return;
    watcher.send({ ...QUIET, header: { ...this.header(), revision: String(revision) }, events: wanted });
  }

  private namesIn(key: string, end: string | undefined): string[] {
    return [...this.keys.keys()].filter((name) => isIn(name, key, end)).sort();
  }

  private keyValue(name: string): rpc.IKeyValue {
    const { value, createRevision, modRevision, lease } = this.keys.get(name)!;
    return {
      key: Buffer.from(name),
      value: Buffer.from(value),
      create_revision: String(createRevision),
      mod_revision: String(modRevision),
      version: '1',
      lease,
    };
  }

  private header(): rpc.IResponseHeader {
    return { cluster_id: '1', member_id: '1', revision: String(this.revision), raft_term: '1' };
  }
}

function isIn(name: string, key: string, end: string | undefined): boolean {
  return end === undefined ? name === key : name >= key && name < end;
}

function text(bytes: Buffer | string | undefined): string {
  return bytes === undefined ? '' : bytes.toString();
}
