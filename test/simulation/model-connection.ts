/**
 * The way from an agent to the store, and all that happens on such ways: it takes time, sometimes longer than anybody
 * waits; requests are lost before they arrive, or answers after; a request is made twice, since its answer was lost;
 * connections are refused, or fall silent. What a stream carries arrives in order or the stream breaks, as TCP has it.
 */
import { Metadata, status } from '@grpc/grpc-js';
import type { IWatchResponse } from 'etcd3';
import type { Clock } from '../../src/clock.js';
import type {
  CallContext,
  Calls,
  OpenStream,
  StoreConnection,
  StoreStream,
  Streams,
} from '../../src/subnet/etcd/store-connection.js';
import { storeError, type StoreError } from '../../src/subnet/etcd/store-error.js';
import type { Chance } from './chance.js';
import { LEASE_NOT_FOUND, type ModelEtcd, type Watcher } from './model-etcd.js';
import type { Timeline } from './timeline.js';

const ENDPOINT = 'http://store:2379';
const REQUEST_TIMEOUT_MS = 5_000;
/** After so long a connection on which nothing comes is given up. */
const SILENCE_MS = 15_000;
/** What is not lost arrives by then. */
export const LONGEST_WAY_MS = 12_000;

/** How a way is. */
export interface Way {
  /** `refusing`: connections break, and new ones fail at once. `silent`: nothing arrives, and nobody says so. */
  state: 'open' | 'refusing' | 'silent';
  /** Of requests and of answers. */
  lossProbability: number;
  /** Of a delay that is longer than anybody waits. */
  stallProbability: number;
}

export interface ModelConnectionOptions {
  /** Who speaks, for the store's checks. */
  readonly actor: string;
  readonly clock: Clock;
  readonly timeline: Timeline;
  readonly etcd: ModelEtcd;
  readonly chance: Chance;
  readonly way: Way;
}

export class ModelConnection implements StoreConnection {
  readonly names = [ENDPOINT];
  readonly requestTimeoutMs = REQUEST_TIMEOUT_MS;
  readonly clock: Clock;
  private readonly streams = new Set<{ deaf: boolean; breakOff(reason: string): void }>();

  constructor(private readonly options: ModelConnectionOptions) {
    this.clock = options.clock;
  }

  call<M extends keyof Calls>(method: M, request: Calls[M][0], context: CallContext): Promise<Calls[M][1]> {
    const { timeline, chance, way } = this.options;
    return new Promise((resolve, reject) => {
      context.signal.throwIfAborted();
      let over = false;
      const settle = (outcome: () => void): void => {
        if (over) return;
        over = true;
        forget();
        context.signal.removeEventListener('abort', abort);
        outcome();
      };
      const fail = (code: status, details: string): void => settle(() => reject(told(code, details)));
      const abort = (): void => settle(() => reject(context.signal.reason as Error));
      context.signal.addEventListener('abort', abort, { once: true });
      const limitMs = context.timeoutMs ?? REQUEST_TIMEOUT_MS;
      const forget = this.clock.after(limitMs, () => fail(status.DEADLINE_EXCEEDED, 'Deadline exceeded'));
      if (way.state === 'refusing') {
        timeline.after(1, () => fail(status.UNAVAILABLE, 'connect ECONNREFUSED'));
        return;
      }
      const ask = (): void =>
        this.carry(() => {
          let answer: Calls[M][1];
          try {
            answer = this.apply(method, request) as Calls[M][1];
          } catch (error) {
            const { message } = error as Error;
            this.carry(() => fail(message === LEASE_NOT_FOUND ? status.NOT_FOUND : status.OUT_OF_RANGE, message));
            return;
          }
          this.carry(() => settle(() => resolve(answer)));
        });
      ask();
      // Another endpoint is asked when one does not answer; the first may have done the work.
      if (chance.happens(way.lossProbability)) timeline.after(chance.between(1, limitMs), () => over || ask());
    });
  }

  stream<M extends keyof Streams>(method: M, signal: AbortSignal): Promise<OpenStream<M>> {
    const { timeline, way } = this.options;
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      if (way.state !== 'open') {
        const silent = way.state === 'silent';
        timeline.after(silent ? REQUEST_TIMEOUT_MS : 1, () => {
          reject(
            signal.aborted ? (signal.reason as Error) : told(status.UNAVAILABLE, 'no answer to the connection attempt'),
          );
        });
        return;
      }
      const stream = method === 'watch' ? this.watchStream() : this.keepAliveStream();
      resolve({ stream, endpoint: ENDPOINT });
    });
  }

  streamFailed(_endpoint: string, error: unknown): StoreError {
    return storeError([{ endpoint: ENDPOINT, error, hadAnswered: true }]);
  }

  count(): void {
    // The simulation looks at what is done, not at how it is counted.
  }

  close(): void {
    for (const stream of [...this.streams]) stream.breakOff('closed');
  }

  /** The way has changed, or the server went: what stands breaks off, at once or when somebody notices. */
  breakStreams(): void {
    const { timeline, way } = this.options;
    for (const stream of [...this.streams]) {
      stream.deaf = true;
      timeline.after(way.state === 'silent' ? SILENCE_MS : 1, () => stream.breakOff('read ECONNRESET'));
    }
  }

  /** Carries one message, or loses it. */
  private carry(arrive: () => void): void {
    const { timeline, chance, way } = this.options;
    if (way.state !== 'open' || chance.happens(way.lossProbability)) return;
    timeline.after(this.delayMs(), arrive);
  }

  private delayMs(): number {
    const { chance, way } = this.options;
    return chance.happens(way.stallProbability) ? chance.between(1_000, LONGEST_WAY_MS) : chance.between(1, 40);
  }

  private apply(method: keyof Calls, request: object): object {
    const { etcd, actor } = this.options;
    switch (method) {
      case 'range':
        return etcd.range(request);
      case 'txn':
        return etcd.txn(actor, request);
      case 'leaseGrant':
        return etcd.grant(Number((request as Calls['leaseGrant'][0]).TTL));
      case 'leaseRevoke':
        return etcd.revoke(actor, String((request as Calls['leaseRevoke'][0]).ID));
      case 'leaseTimeToLive':
        return etcd.timeToLive(String((request as Calls['leaseTimeToLive'][0]).ID));
      case 'authenticate':
        throw new Error('etcdserver: authentication is not enabled');
    }
  }

  private watchStream(): StoreStream<Streams['watch'][0], IWatchResponse> {
    const { etcd } = this.options;
    let watcher: Watcher | undefined;
    const stream = new ModelStream<IWatchResponse>(() => {
      this.streams.delete(stream);
      if (watcher !== undefined) etcd.unwatch(watcher);
    });
    this.streams.add(stream);
    return Object.assign(stream, {
      write: ({ create_request: wanted }: Streams['watch'][0]) => {
        const { key, range_end: end, start_revision: start } = wanted as Record<string, string | Buffer | undefined>;
        watcher = {
          key: String(key),
          ...(end === undefined ? {} : { rangeEnd: String(end) }),
          startRevision: Number(start),
          send: (response) => this.inOrder(stream, () => stream.emit(response)),
        };
        const made = watcher;
        this.inOrder(stream, () => etcd.watch(made));
      },
    });
  }

  private keepAliveStream(): StoreStream<Streams['leaseKeepAlive'][0], Streams['leaseKeepAlive'][1]> {
    const { etcd } = this.options;
    const stream = new ModelStream<Streams['leaseKeepAlive'][1]>(() => this.streams.delete(stream));
    this.streams.add(stream);
    return Object.assign(stream, {
      write: ({ ID: id }: Streams['leaseKeepAlive'][0]) =>
        this.inOrder(stream, () => {
          const answer = etcd.keepAlive(String(id));
          this.inOrder(stream, () => stream.emit(answer));
        }),
    });
  }

  /** Carries what must not overtake: not before what was sent earlier on the same stream has arrived. */
  private inOrder<T>(stream: ModelStream<T>, arrive: () => void): void {
    const { timeline, way } = this.options;
    const at = Math.max(timeline.now + Math.ceil(this.delayMs()), stream.busyUntil);
    stream.busyUntil = at;
    timeline.after(at - timeline.now, () => {
      // What is lost here is sent again by TCP, but nothing overtakes it: the stream is dead until somebody notices.
      if (way.state !== 'open') stream.deaf = true;
      if (!stream.ended && !stream.deaf) arrive();
    });
  }
}

/** One end of a stream. */
class ModelStream<Response> {
  ended = false;
  /** Nothing comes through any more, though it has not ended yet. */
  deaf = false;
  busyUntil = 0;
  private readonly onData: ((response: Response) => void)[] = [];
  private readonly onError: ((error: Error) => void)[] = [];

  constructor(private readonly released: () => void) {}

  on(event: string, listener: (value: never) => void): void {
    if (event === 'data') this.onData.push(listener as (response: Response) => void);
    if (event === 'error') this.onError.push(listener as (error: Error) => void);
  }

  emit(response: Response): void {
    for (const listener of this.onData) listener(response);
  }

  cancel(): void {
    this.end(status.CANCELLED, 'Cancelled on client');
  }

  breakOff(reason: string): void {
    this.end(status.UNAVAILABLE, reason);
  }

  private end(code: status, details: string): void {
    if (this.ended) return;
    this.ended = true;
    this.released();
    for (const listener of this.onError) listener(serviceError(code, details));
  }
}

function serviceError(code: status, details: string): Error {
  return Object.assign(new Error(details), { code, details, metadata: new Metadata() });
}

function told(code: status, details: string): StoreError {
  return storeError([{ endpoint: ENDPOINT, error: serviceError(code, details), hadAnswered: true }]);
}
