/**
 * The board of probes in etcd: `PREFIX/probes/calls/ID`, and `PREFIX/probes/reports/ID/NODE/NAME`, all of one call on one
 * short etcd lease. Agents watch the calls only; a report wakes nobody but him who asked.
 */
import { randomBytes } from 'node:crypto';
import { status } from '@grpc/grpc-js';
import type { IKeyValue } from 'etcd3';
import { errorMessage } from '../../errors.js';
import type { Logger } from '../../log.js';
import { ReasonReporter } from '../../reason-reporter.js';
import type { CallWatcher, HeardCall, PostedCall, ProbeBoard, ProbeReport } from '../probe-board.js';
import { follow } from './follow.js';
import type { StoreConnection } from './store-connection.js';
import { StoreError } from './store-error.js';
import { prefixEnd, storeKeys } from './store-keys.js';
import { isRemoval, watch } from './watch-stream.js';

/** What a call or a report may have; a row of a mesh of 128 nodes is the longest. */
const MAX_TEXT_BYTES = 32 * 1024;
/** Calls that are looked at when the watch begins. */
const MAX_LISTED_CALLS = 64;
/** No call is ended for its caller's sake for longer than this. */
const END_TIMEOUT_MS = 2000;
/** A user who may not read the calls is asked so often whether he may now. */
const REFUSED_RETRY_MS = 300_000;

const ID = /^[0-9a-f]{16}$/;
const REPORT = /^([0-9a-f]{16})\/([0-9.]{7,15})\/([a-z0-9-]{1,40})$/;

export class EtcdProbeBoard implements ProbeBoard {
  private readonly calls: string;
  private readonly reports: string;

  constructor(
    private readonly connection: StoreConnection,
    prefix: string,
    private readonly logger: Logger,
  ) {
    const { probes } = storeKeys(prefix);
    this.calls = `${probes}calls/`;
    this.reports = `${probes}reports/`;
  }

  async call(text: string, ttlSeconds: number, signal: AbortSignal): Promise<PostedCall> {
    const id = randomBytes(8).toString('hex');
    const grant = await this.connection.call(
      'leaseGrant',
      { TTL: ttlSeconds },
      { operation: 'grant', signal, optional: true },
    );
    const put = { key: Buffer.from(this.calls + id), value: Buffer.from(text), lease: grant.ID };
    const answer = await this.connection.call(
      'txn',
      { success: [{ request_put: put }] },
      { operation: 'txn', signal, optional: true },
    );
    return {
      id,
      watchReports: (handle, until) => this.watchReports(id, answer.header.revision, handle, until),
      end: async () => {
        const limit = AbortSignal.timeout(END_TIMEOUT_MS);
        const context = { operation: 'revoke', signal: limit, optional: true } as const;
        // Where that fails, the lease ends by itself.
        await this.connection.call('leaseRevoke', { ID: grant.ID }, context).catch(() => undefined);
      },
    };
  }

  watchCalls(watcher: CallWatcher, signal: AbortSignal): Promise<void> {
    const reasons = new ReasonReporter((reason) => {
      this.logger.info(`this node takes no part in flannelctl probe: ${reason}`);
    });
    return follow(
      {
        connection: this.connection,
        key: Buffer.from(this.calls),
        rangeEnd: prefixEnd(this.calls),
        optional: true,
        read: () => this.listCalls(watcher, signal),
        events: (events) => {
          for (const event of events) {
            if (isRemoval(event)) watcher.ended(event.kv.key.toString().slice(this.calls.length));
            else this.hear(event.kv, watcher);
          }
        },
        opened: () => reasons.clear(),
        broke: (error) => {
          if (isRefusal(error)) reasons.report(errorMessage(error));
        },
        retryMs: (error) => (isRefusal(error) ? REFUSED_RETRY_MS : undefined),
      },
      signal,
    );
  }

  async report(call: HeardCall, node: string, name: string, text: string, signal: AbortSignal): Promise<void> {
    const key = Buffer.from(`${this.reports}${call.id}/${node}/${name}`);
    const put = { key, value: Buffer.from(text), lease: call.storeLease };
    await this.connection.call(
      'txn',
      { success: [{ request_put: put }] },
      { operation: 'txn', signal, optional: true },
    );
  }

  /** Hears the calls that stand there already; answers the revision that they are of. */
  private async listCalls(watcher: CallWatcher, signal: AbortSignal): Promise<string> {
    const range = { key: Buffer.from(this.calls), range_end: prefixEnd(this.calls), limit: MAX_LISTED_CALLS };
    const { kvs, header } = await this.connection.call('range', range, { operation: 'range', signal, optional: true });
    for (const kv of kvs) this.hear(kv, watcher);
    return header.revision;
  }

  private hear(kv: IKeyValue, watcher: CallWatcher): void {
    const key = kv.key.toString();
    const id = key.slice(this.calls.length);
    if (!ID.test(id) || kv.lease === '0' || kv.value.length > MAX_TEXT_BYTES) watcher.ignored(key);
    else watcher.called({ id, text: kv.value.toString(), storeLease: kv.lease });
  }

  private async watchReports(
    id: string,
    afterRevision: string,
    handle: (report: ProbeReport) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const prefix = `${this.reports}${id}/`;
    await watch(
      this.connection,
      {
        key: Buffer.from(prefix),
        rangeEnd: prefixEnd(prefix),
        afterRevision,
        optional: true,
        events: (events) => {
          for (const event of events) {
            const { kv } = event;
            const match = REPORT.exec(kv.key.toString().slice(this.reports.length));
            if (isRemoval(event) || match === null || kv.value.length > MAX_TEXT_BYTES) continue;
            handle({ node: match[2], name: match[3], text: kv.value.toString() });
          }
        },
      },
      signal,
    );
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof StoreError && error.grpcCode === Number(status.PERMISSION_DENIED);
}
