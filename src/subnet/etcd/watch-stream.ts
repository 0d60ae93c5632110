/**
 * One watch on a range of keys, from a revision on, for as long as its stream lasts. etcd3's own watcher is not used: it
 * reconnects by itself and goes on from a revision that may lie behind changes it never delivered, so that a removal
 * would be missed. Here the end of the stream ends the watch, and the caller lists again.
 */
import { status } from '@grpc/grpc-js';
import type { IEvent, IWatchResponse } from 'etcd3';
import { checkedAnswer } from './answers.js';
import { serviceError } from './grpc-call.js';
import type { StoreConnection } from './store-connection.js';

export interface WatchOptions {
  readonly key: Buffer;
  /** Absent: that key alone. */
  readonly rangeEnd?: Buffer;
  /** The revision that was seen; the watch tells what came after. */
  readonly afterRevision: string;
  /** Its failure says nothing about how the store does: it may be refused to this user. */
  readonly optional?: boolean;
  /** The watch stands: nothing after `afterRevision` will be missed while it lasts. */
  opened?(): void;
  /** In the order of revisions; several writes may come together, and the writes of one transaction in several pieces. */
  events(events: readonly IEvent[]): void;
}

/**
 * Watches until the signal is aborted.
 * @throws StoreError when the stream ends for any other reason, compaction of `afterRevision` among them
 */
export async function watch(connection: StoreConnection, options: WatchOptions, signal: AbortSignal): Promise<void> {
  const range = { key: options.key, ...(options.rangeEnd === undefined ? {} : { range_end: options.rangeEnd }) };
  const { stream, endpoint } = await connection.stream('watch', signal);
  const cancel = () => stream.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  if (signal.aborted) cancel();
  let heard = (): void => undefined;
  try {
    await new Promise<never>((_resolve, reject) => {
      heard = connection.clock.after(connection.requestTimeoutMs, () => {
        reject(serviceError(status.DEADLINE_EXCEEDED, 'no answer in time'));
      });
      const received = (response: IWatchResponse) => {
        // A watch from a revision to come would be silent until the store gets there, and miss what happens before.
        if (!response.canceled && BigInt(response.header.revision) < BigInt(options.afterRevision)) {
          const { revision } = response.header;
          const reason =
            `the store went back from revision ${options.afterRevision} to ${revision}: ` +
            'was it restored, or is this member behind the others?';
          return reject(serviceError(status.OUT_OF_RANGE, reason));
        }
        if (response.canceled) {
          const compacted = response.compact_revision !== '0';
          const reason = compacted ? `revision ${options.afterRevision} was compacted` : response.cancel_reason;
          reject(serviceError(codeOfCancellation(reason), reason === '' ? 'etcd ended the watch' : reason));
        } else if (response.created) {
          heard();
          connection.count('watch');
          options.opened?.();
        }
        if (response.events.length > 0) options.events(response.events);
      };
      stream.on('data', (response) => {
        try {
          received(checkedAnswer('watch', range, response));
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
      stream.on('error', reject);
      stream.on('end', () => reject(serviceError(status.UNAVAILABLE, 'etcd ended the stream')));
      stream.write({
        create_request: {
          ...range,
          start_revision: (BigInt(options.afterRevision) + 1n).toString(),
          progress_notify: true,
          fragment: true,
        },
      });
    });
  } catch (error) {
    if (signal.aborted) return;
    const told = connection.streamFailed(endpoint, error);
    if (options.optional !== true) connection.count('watch', told);
    throw told;
  } finally {
    heard();
    signal.removeEventListener('abort', cancel);
    stream.cancel();
  }
}

/** Whether a key was deleted or has expired. */
export function isRemoval(event: IEvent): boolean {
  // The types name the kinds Put and Delete; on the wire they are PUT and DELETE.
  return event.type.toUpperCase() === 'DELETE';
}

/** etcd tells why it ended a watch in words only. */
function codeOfCancellation(reason: string): status {
  if (/permission denied|auth token/.test(reason)) return status.PERMISSION_DENIED;
  return /compacted/.test(reason) ? status.OUT_OF_RANGE : status.UNAVAILABLE;
}
