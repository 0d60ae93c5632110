/**
 * Keeping this node's own lease: read the key, watch it, renew it in time. Nodes that started together renew apart: each
 * begins a little earlier than it must, by chance.
 *
 * The key is the truth. After every gap it is read again, and then it is one of three: ours, so that it is watched and
 * renewed; absent, so that it is taken back when no other lease has its addresses; or another node's, which is the end
 * of it. A renewal prolongs the etcd lease behind the key and writes no key, so that a thousand nodes that renew are no
 * event to each other, and a node that slept for a week cannot write over anybody.
 *
 * A node that cannot ask does not know which of the three it is. When its lease must have run out by its own clock it
 * says so, and goes on trying.
 *
 * The key names its owner by nothing but its PublicIP, so that two machines with one PublicIP (clones of an image) take
 * each other's for their own. Neither can lose it to the other then, and both keep it alive. They find out because a
 * start writes the key: who sees it written by somebody else says so, and writes it once itself, so that the other sees
 * it as well. After that nobody writes any more.
 */
import { childAbort } from '../../child-abort.js';
import { pause } from '../../clock.js';
import type { Clock } from '../../clock.js';
import { errorMessage } from '../../errors.js';
import { formatIpv4, prefixesOverlap } from '../../packet/address.js';
import type { Logger } from '../../log.js';
import { attributesOf } from '../lease.js';
import type { Lease } from '../lease.js';
import { formatLeaseKey, parseLeaseKey } from '../lease-key.js';
import { formatLeaseValue } from '../lease-value.js';
import type { OwnLeaseWatcher } from '../subnet-manager.js';
import { Backoff } from './backoff.js';
import { leaseName } from './lease-mirror.js';
import type { LeaseStore } from './lease-store.js';
import type { StoredEntry } from './stored-entry.js';
import type { OwnKey } from './own-key.js';
import { watch } from './watch-stream.js';

export interface KeepLeaseOptions {
  readonly store: LeaseStore;
  readonly ownKey: OwnKey;
  readonly lease: Lease;
  readonly ttlSeconds: number;
  readonly renewMarginSeconds: number;
  /** Between one failed renewal and the next try, at most. */
  readonly renewRetryMs: number;
  readonly watcher: OwnLeaseWatcher;
  readonly logger: Logger;
  /** From 0 up to but not including 1. */
  readonly random?: () => number;
}

/** Keeps a lease until the signal is aborted or the subnet is another node's; never rejects. */
export function keepLease(options: KeepLeaseOptions, signal: AbortSignal): Promise<void> {
  return new OwnLease(options, signal).keep();
}

class OwnLease {
  private readonly name: string;
  private readonly value: string;
  private readonly clock: Clock;
  /** The etcd lease behind the key as last seen; `0` for a reservation. */
  private etcdLeaseId: string | undefined;
  /** `undefined` for a reservation, and until it is known. */
  private expiresAtMs: number | undefined;
  /** The same by a clock that nobody sets. */
  private expiresAtElapsedMs = Infinity;
  /** When to renew, by that clock. */
  private renewAtElapsedMs = Infinity;
  private forgetExpiry = (): void => undefined;
  private lease: Lease;
  private lostReason: string | undefined;
  private answeredOther = false;
  /** The key was found absent, and could not be written yet. */
  private wanting = false;
  private toldMissing = false;

  constructor(
    private readonly options: KeepLeaseOptions,
    private readonly signal: AbortSignal,
  ) {
    this.clock = options.store.connection.clock;
    this.lease = options.lease;
    this.setExpiry(options.lease.expiresAtMs);
    this.name = formatLeaseKey(options.lease);
    this.value = formatLeaseValue(options.lease);
  }

  async keep(): Promise<void> {
    const backoff = new Backoff(this.options.random);
    while (!this.signal.aborted && this.lostReason === undefined) {
      const startedAt = this.clock.elapsed();
      try {
        const revision = await this.settle();
        if (revision !== undefined) await this.guard(revision);
      } catch (error) {
        if (this.signal.aborted) break;
        if (this.wanting) this.missing(errorMessage(error));
        else if (this.untilRenewalMs() === 0) this.options.watcher.trouble(errorMessage(error));
        else this.options.logger.debug(`watching this node's lease again: ${errorMessage(error)}`);
        if (this.clock.elapsed() - startedAt > STABLE_MS) backoff.reset();
        await pause(this.clock, backoff.nextMs(), this.signal);
      }
    }
    this.forgetExpiry();
    if (this.lostReason !== undefined && !this.signal.aborted) this.options.watcher.lost(this.lostReason);
  }

  /** Reads the key and acts on it; returns the revision to watch it from once it is known to be ours. */
  private async settle(): Promise<string | undefined> {
    const { entry, revision } = await this.options.store.read(this.name, this.signal);
    this.wanting = entry === undefined;
    if (entry === undefined) {
      await this.takeBack();
      return undefined;
    }
    if (!(await this.adopt(entry))) return undefined;
    if (this.toldMissing) this.update(this.expiresAtMs);
    return revision;
  }

  private missing(reason: string): void {
    this.toldMissing = true;
    this.options.watcher.missing(reason);
  }

  /** Takes what the key says for what is: whose it is, and when it expires. False: it is to be read again, or lost. */
  private async adopt(entry: StoredEntry): Promise<boolean> {
    const { store, ownKey } = this.options;
    const { content } = entry;
    if (!content.ok || content.lease.publicIp !== this.lease.publicIp) {
      const owner = content.ok ? formatIpv4(content.lease.publicIp) : `a value that is no lease (${content.reason})`;
      this.lostReason = `${leaseName(this.lease)} belongs to ${owner} now`;
      return false;
    }
    const byAnother = entry.etcdLeaseId !== '0' && ownKey.wasRewritten(entry) && !store.wroteHere(entry);
    ownKey.seen(entry);
    if (byAnother) ownKey.sharedWithAnother();
    const known =
      this.etcdLeaseId === undefined ? this.expiresAtMs !== undefined : this.etcdLeaseId === entry.etcdLeaseId;
    this.etcdLeaseId = entry.etcdLeaseId;
    if (entry.etcdLeaseId === '0') {
      if (!this.lease.reserved) this.update(undefined);
    } else if (!known || byAnother) {
      this.update(await store.expiry(entry.etcdLeaseId, this.signal));
    }
    if (byAnother) await this.answerOther(entry);
    return !byAnother;
  }

  /** Another process has written the key in this node's name. */
  private async answerOther(entry: StoredEntry): Promise<void> {
    const { store, watcher, ownKey } = this.options;
    // A successor of this very process would have ended it by then.
    await pause(this.clock, SUCCESSION_MS, this.signal);
    this.signal.throwIfAborted();
    watcher.addressShared(
      `another machine runs an agent with this node's public IP ${formatIpv4(this.lease.publicIp)}: ` +
        `it has written the lease of ${leaseName(this.lease)}, too`,
    );
    if (this.answeredOther) return;
    this.answeredOther = true;
    const result = await store.replace(entry, this.value, 'lease', this.signal);
    if (!result.written) return;
    ownKey.seen(result.entry);
    this.etcdLeaseId = result.entry.etcdLeaseId;
    this.update(result.expiresAtMs);
  }

  private async takeBack(): Promise<void> {
    const { store, ownKey, logger } = this.options;
    const { entries } = await store.list(this.signal);
    const other = entries.find((entry) => {
      const key = parseLeaseKey(entry.name);
      if (key === undefined || entry.name === this.name || !prefixesOverlap(key.subnet, this.lease.subnet))
        return false;
      const { content } = entry;
      return !content.ok || content.lease.publicIp !== this.lease.publicIp;
    });
    if (other !== undefined) {
      this.lostReason = `${leaseName(this.lease)} was deleted, and ${other.name} has taken its addresses`;
      return;
    }
    const result = await store.create(this.name, this.value, 'lease', this.signal);
    // Another was faster: the key is read again.
    if (!result.written) return;
    logger.warn(`the lease of ${leaseName(this.lease)} had expired or was deleted; it is taken back`);
    ownKey.seen(result.entry);
    this.etcdLeaseId = result.entry.etcdLeaseId;
    this.update(result.expiresAtMs);
  }

  /** Watches the key and renews it; returns when the key has changed or its etcd lease has ended. */
  private async guard(revision: string): Promise<void> {
    const { store } = this.options;
    const over = childAbort(this.signal);
    const events = (): void => over.abort();
    const watching = watch(
      store.connection,
      { key: store.keyOf(this.name), afterRevision: revision, events },
      over.signal,
    );
    const renewing = this.renew(over.signal);
    try {
      await Promise.race([watching, renewing]);
    } finally {
      over.abort();
      await Promise.allSettled([watching, renewing]);
    }
  }

  /** Renews whenever that is due; returns when the signal is aborted or the etcd lease has ended. */
  private async renew(signal: AbortSignal): Promise<void> {
    const { store, logger, renewRetryMs } = this.options;
    const { clock, etcdLeaseId } = this;
    if (etcdLeaseId === undefined || etcdLeaseId === '0') return pause(clock, Infinity, signal);
    for (;;) {
      // Not in one go: timers stand still while the machine sleeps.
      await pause(clock, Math.min(this.untilRenewalMs(), LOOK_AGAIN_MS), signal);
      if (signal.aborted) return;
      if (this.untilRenewalMs() > 0) continue;
      try {
        const expiresAtMs = await store.keepAlive(etcdLeaseId, signal);
        // etcd deletes the key in a moment, if it has not yet.
        if (expiresAtMs === undefined) return await pause(clock, EXPIRY_GRACE_MS, signal);
        logger.info(`renewed the lease of ${leaseName(this.lease)} until ${new Date(expiresAtMs).toISOString()}`);
        this.update(expiresAtMs);
      } catch (error) {
        if (signal.aborted) return;
        this.options.watcher.trouble(errorMessage(error));
        await pause(clock, renewRetryMs * (1 - RETRY_SPREAD * this.chance()), signal);
      }
    }
  }

  private untilRenewalMs(): number {
    if (this.etcdLeaseId === '0' || this.expiresAtMs === undefined) return Infinity;
    return Math.max(this.renewAtElapsedMs - this.clock.elapsed(), 0);
  }

  private chance(): number {
    return (this.options.random ?? Math.random)();
  }

  private update(expiresAtMs: number | undefined): void {
    this.toldMissing = false;
    this.setExpiry(expiresAtMs);
    const { subnet, ipv6Subnet } = this.lease;
    this.lease = {
      ...attributesOf(this.lease),
      subnet,
      ...(ipv6Subnet === undefined ? {} : { ipv6Subnet }),
      reserved: this.etcdLeaseId === '0',
      ...(expiresAtMs === undefined ? {} : { expiresAtMs }),
    };
    this.options.watcher.renewed(this.lease);
  }

  private setExpiry(expiresAtMs: number | undefined): void {
    this.expiresAtMs = expiresAtMs;
    const leftMs = (expiresAtMs ?? Infinity) - this.clock.now();
    this.expiresAtElapsedMs = this.clock.elapsed() + leftMs;
    // A margin as long as the lease itself would renew without a pause; flannel's longest, 1439 minutes of a day, leaves one.
    const { renewMarginSeconds, ttlSeconds } = this.options;
    const marginMs = Math.min(renewMarginSeconds, Math.max(ttlSeconds - 60, ttlSeconds / 2)) * 1000;
    const restMs = Math.max(leftMs - marginMs, 0);
    this.renewAtElapsedMs = this.clock.elapsed() + restMs * (1 - RENEWAL_SPREAD * this.chance());
    this.awaitExpiry();
  }

  private awaitExpiry(): void {
    this.forgetExpiry();
    if (this.expiresAtMs === undefined) return;
    const leftMs = this.expiresAtElapsedMs - this.clock.elapsed();
    this.forgetExpiry = this.clock.after(Math.min(Math.max(leftMs, 0), LOOK_AGAIN_MS), () => {
      if (this.expiresAtElapsedMs > this.clock.elapsed()) this.awaitExpiry();
      else if (!this.signal.aborted) this.options.watcher.expired();
    });
  }
}

/** Of the time until a renewal is due, and until a failed one is tried again: so much of it may be left out. */
const RENEWAL_SPREAD = 0.1;
const RETRY_SPREAD = 0.5;
/** A watch that lasted this long was no part of a series of failures. */
const STABLE_MS = 10_000;
const LOOK_AGAIN_MS = 60_000;
const EXPIRY_GRACE_MS = 200;
/** How long an agent lives on, at most, after another was started in its place. */
const SUCCESSION_MS = 5_000;
