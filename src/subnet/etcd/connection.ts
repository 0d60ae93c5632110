/**
 * One etcd cluster behind a list of endpoints.
 *
 * Messages and service clients are etcd3's; which endpoint is asked, for how long and with which token is decided here,
 * and when it is connected to in `Endpoint`: etcd3's own pool picks endpoints at random (so that a dead one costs time
 * again and again), has no limit on how long a call may take, tears down a host's other streams when one fails, and
 * cannot send the `hasleader` metadata.
 *
 * The endpoint that answered last is asked first; when it fails, the next one is tried at once, each once a call; the first
 * that is without a leader is asked again when no other answers.
 */
import { setMaxListeners } from 'node:events';
import { Metadata, status } from '@grpc/grpc-js';
import type { CallOptions, Client, ClientDuplexStream } from '@grpc/grpc-js';
import { errorMessage } from '../../errors.js';
import { systemClock } from '../../clock.js';
import type { StoreObserver, StoreOperation } from '../subnet-manager.js';
import { checkedAnswer } from './answers.js';
import { Endpoint } from './endpoint.js';
import { unary, unreachable } from './grpc-call.js';
import { Link } from './link.js';
import type { ServiceName } from './link.js';
import type { EtcdTarget, EtcdTimings } from './options.js';
import { isAuthDisabled, isEndpointFailure, isTokenFailure, isWithoutLeader, storeError } from './store-error.js';
import type { EndpointFailure, StoreError } from './store-error.js';
import type { CallContext, Calls, OpenStream, StoreConnection, Streams } from './store-connection.js';

const SERVICES: Readonly<Record<keyof Calls | keyof Streams, ServiceName>> = {
  range: 'KV',
  txn: 'KV',
  leaseGrant: 'Lease',
  leaseRevoke: 'Lease',
  leaseTimeToLive: 'Lease',
  leaseKeepAlive: 'Lease',
  authenticate: 'Auth',
  watch: 'Watch',
};

type StreamMethod = (metadata: Metadata, options: CallOptions) => ClientDuplexStream<unknown, unknown>;

interface Server {
  readonly target: EtcdTarget;
  readonly endpoint: Endpoint<Link>;
  /** Whether it has answered a call, so that its URL is right. */
  answered: boolean;
}

export interface ConnectionOptions {
  readonly targets: readonly EtcdTarget[];
  readonly username?: string;
  /** Asked for every login. */
  readonly password?: () => string;
  readonly timings: EtcdTimings;
  readonly observer?: StoreObserver;
  /** From 0 up to but not including 1; decides whom this node asks first, so that not all nodes ask the same. */
  readonly random?: () => number;
}

export class EtcdConnection implements StoreConnection {
  readonly clock = systemClock;
  private readonly servers: readonly Server[];
  /** Whom to ask first. */
  private preferred: number;
  /** Empty when etcd runs without authentication; `undefined` until asked. */
  private token: Promise<string> | undefined;
  /** Aborted by `close`: the limit of what several callers wait for together. */
  private readonly lifetime = new AbortController();

  constructor(private readonly options: ConnectionOptions) {
    const { targets, timings, random = Math.random } = options;
    this.servers = targets.map((target) => ({
      target,
      endpoint: new Endpoint({ clock: this.clock, random, dial: () => new Link(target, timings) }),
      answered: false,
    }));
    this.preferred = Math.floor(random() * targets.length);
  }

  get names(): string[] {
    return this.servers.map(({ target }) => target.endpoint);
  }

  get requestTimeoutMs(): number {
    return this.options.timings.requestTimeoutMs;
  }

  /** On whichever endpoint answers. */
  async call<M extends keyof Calls>(method: M, request: Calls[M][0], context: CallContext): Promise<Calls[M][1]> {
    const timeoutMs = context.timeoutMs ?? this.options.timings.requestTimeoutMs;
    const send = async (client: Client, metadata: Metadata, server: Server) => {
      const answer = await unary(client, method, request, metadata, timeoutMs, context.signal);
      const checked = checkedAnswer(method, request, answer);
      server.answered = true;
      return checked;
    };
    return this.counted(context, () => this.withToken(method, context.signal, send));
  }

  /** On whichever endpoint can be connected to. */
  async stream<M extends keyof Streams>(method: M, signal: AbortSignal): Promise<OpenStream<M>> {
    return this.withToken(method, signal, (client, metadata, { target }) => {
      const open = (client as unknown as Record<string, StreamMethod>)[method].bind(client);
      const stream = open(metadata, {}) as ClientDuplexStream<Streams[M][0], Streams[M][1]>;
      // An error that comes before the caller listens must not end the process.
      stream.on('error', () => undefined);
      return Promise.resolve({ stream, endpoint: target.endpoint });
    });
  }

  streamFailed(endpoint: string, error: unknown): StoreError {
    if (isTokenFailure(error) || isPermissionDenied(error)) this.token = undefined;
    const index = this.servers.findIndex(({ target }) => target.endpoint === endpoint);
    if (isEndpointFailure(error)) this.avoid(index);
    return storeError([failureOf(this.servers[index], error)]);
  }

  count(operation: StoreOperation, error?: unknown): void {
    if (error === undefined) this.options.observer?.request(operation, 'ok');
    else this.options.observer?.request(operation, 'error', errorMessage(error));
  }

  close(): void {
    this.lifetime.abort();
    for (const { endpoint } of this.servers) endpoint.close();
  }

  private async counted<T>(context: CallContext, ask: () => Promise<T>): Promise<T> {
    try {
      const answer = await ask();
      this.count(context.operation);
      return answer;
    } catch (error) {
      // What was given up by this side says nothing about etcd.
      if (!context.signal.aborted && context.optional !== true) this.count(context.operation, error);
      throw error;
    }
  }

  private async withToken<T>(
    method: keyof Calls | keyof Streams,
    signal: AbortSignal,
    use: (client: Client, metadata: Metadata, server: Server) => Promise<T>,
  ): Promise<T> {
    // Many calls may hang on one signal, and all let go of it.
    setMaxListeners(0, signal);
    for (let renewed = false; ; renewed = true) {
      const login = this.currentToken();
      const token = await login;
      try {
        return await this.failover(method, signal, (client, metadata, server) => {
          if (token !== '') metadata.set('token', token);
          return use(client, metadata, server);
        });
      } catch (error) {
        const cause = error instanceof Error ? error.cause : undefined;
        if (renewed || this.options.username === undefined || !isTokenFailure(cause)) throw error;
        // Another call may have logged in meanwhile.
        if (this.token === login) this.token = undefined;
      }
    }
  }

  private currentToken(): Promise<string> {
    const { username: name, password = () => '', timings } = this.options;
    if (name === undefined) return Promise.resolve('');
    if (this.token !== undefined) return this.token;
    const { signal } = this.lifetime;
    const context = { operation: 'authenticate', signal } as const;
    const ask = async (client: Client, metadata: Metadata) => {
      const login = { name, password: password() };
      const answer = await unary(client, 'authenticate', login, metadata, timings.requestTimeoutMs, signal);
      return checkedAnswer('authenticate', login, answer);
    };
    const token = this.counted(context, () => this.failover('authenticate', signal, ask)).then(
      (answer) => answer.token,
      (error: unknown) => {
        if (error instanceof Error && isAuthDisabled(error.cause)) return '';
        if (this.token === token) this.token = undefined;
        throw error;
      },
    );
    this.token = token;
    return token;
  }

  /** Asks one server after the other, beginning with the preferred one, until one gives an answer. */
  private async failover<T>(
    method: keyof Calls | keyof Streams,
    signal: AbortSignal,
    ask: (client: Client, metadata: Metadata, server: Server) => Promise<T>,
  ): Promise<T> {
    // In the operator's order, whichever was asked first, so that the same trouble always reads the same.
    const failures: EndpointFailure[] = [];
    const first = this.preferred;
    const attempts = this.servers.map((_, turn) => ({
      index: (first + turn) % this.servers.length,
      needsLeader: true,
    }));
    for (const { index, needsLeader } of attempts) {
      const server = this.servers[index];
      try {
        signal.throwIfAborted();
        const link = await this.connected(server, signal);
        const metadata = new Metadata();
        // A member that is cut off from the others says so then, and ends its streams, instead of falling silent.
        if (needsLeader) metadata.set('hasleader', 'true');
        const answer = await ask(link.client(SERVICES[method]), metadata, server);
        this.preferred = index;
        return answer;
      } catch (error) {
        signal.throwIfAborted();
        failures[index] = failureOf(server, error);
        // A refusal is an answer, and the last word; the failures of other servers before it no longer matter.
        if (!isEndpointFailure(error)) throw storeError([failures[index]]);
        this.avoid(index);
        // Where no other does better, the members may be electing one, which takes a moment: this one waits for it.
        const isFirst = attempts.length === this.servers.length;
        if (isWithoutLeader(error) && isFirst) attempts.push({ index, needsLeader: false });
      }
    }
    throw storeError(failures);
  }

  private avoid(index: number): void {
    if (index === this.preferred) this.preferred = (index + 1) % this.servers.length;
  }

  /** Waits for a connection, not so long where there is another server to ask. */
  private connected({ endpoint }: Server, signal: AbortSignal): Promise<Link> {
    const { connectTimeoutMs, requestTimeoutMs } = this.options.timings;
    const patienceMs = this.servers.length > 1 ? connectTimeoutMs : requestTimeoutMs;
    return new Promise((resolve, reject) => {
      const over = (): void => {
        forget();
        signal.removeEventListener('abort', aborted);
      };
      const fail = (error: Error): void => {
        over();
        reject(error);
      };
      const aborted = (): void => fail(signal.reason as Error);
      const forget = this.clock.after(patienceMs, () => fail(unreachable('no answer to the connection attempt')));
      signal.addEventListener('abort', aborted, { once: true });
      endpoint.connected().then((link) => {
        over();
        resolve(link);
      }, fail);
    });
  }
}

/** For a message about a server that failed. */
function failureOf({ target, answered: hadAnswered }: Server, error: unknown): EndpointFailure {
  const { endpoint, certificateTrouble } = target;
  return { endpoint, error, hadAnswered, certificateTrouble };
}

function isPermissionDenied(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === status.PERMISSION_DENIED;
}
