/**
 * One server of the cluster, and the connection to it while there is one.
 *
 * However many ask for a connection, one is made; and after one that failed there is a pause, in which all are told the
 * same again. So what an outage costs does not grow with what waits for its end.
 *
 * A server that accepts and says nothing may be about to, for a thousand nodes came back to it at once; or it never will,
 * for it has forgotten this connection. So another is tried soon, while the last few are left to come to something.
 */
import type { Clock } from '../../clock.js';
import { Backoff } from './backoff.js';

/** A connection, as `Link` is one. */
export interface Connection {
  readonly stands: boolean;
  /** Whether it may come to stand after `open` has given it up. */
  readonly pending: boolean;
  /** Rejects with the reason why it cannot stand. */
  open(): Promise<void>;
  close(): void;
}

export interface EndpointOptions<C extends Connection> {
  readonly clock: Clock;
  /** From 0 up to but not including 1. */
  readonly random?: () => number;
  /** Makes a connection that is still to be opened. */
  dial(): C;
}

/** Connections that were given up and may yet stand. */
const MOST_LINGERING = 3;

export class Endpoint<C extends Connection> {
  private connection: C | undefined;
  private attempt: Promise<C> | undefined;
  /** The oldest first. */
  private lingering: C[] = [];
  private failure: { readonly error: Error; readonly untilMs: number } | undefined;
  private readonly backoff: Backoff;
  private closed = false;

  constructor(private readonly options: EndpointOptions<C>) {
    this.backoff = new Backoff(options.random);
  }

  /** A connection that stands. Rejects with the reason of the last attempt, at once where that was a moment ago. */
  connected(): Promise<C> {
    const { connection, failure } = this;
    if (this.attempt !== undefined) return this.attempt;
    if (connection?.stands === true) return Promise.resolve(connection);
    const late = this.lingering.find(({ stands }) => stands);
    if (late !== undefined) return Promise.resolve(this.adopt(late));
    if (failure !== undefined && this.options.clock.elapsed() < failure.untilMs) {
      return Promise.reject(failure.error);
    }
    const attempt = this.connect().finally(() => (this.attempt = undefined));
    // It goes on when nobody waits for it any more.
    attempt.catch(() => undefined);
    this.attempt = attempt;
    return attempt;
  }

  close(): void {
    this.closed = true;
    this.connection?.close();
    for (const one of this.lingering) one.close();
  }

  private async connect(): Promise<C> {
    this.connection?.close();
    this.connection = undefined;
    if (this.closed) throw new Error('the connection was closed');
    const connection = this.options.dial();
    this.connection = connection;
    try {
      await connection.open();
    } catch (error) {
      this.connection = undefined;
      this.leave(connection);
      this.failure = { error: error as Error, untilMs: this.options.clock.elapsed() + this.backoff.nextMs() };
      throw error;
    }
    return this.adopt(connection);
  }

  /** Goes on with a connection that stands, and with no other. */
  private adopt(connection: C): C {
    for (const other of this.lingering) if (other !== connection) other.close();
    this.lingering = [];
    this.connection = connection;
    this.failure = undefined;
    this.backoff.reset();
    return connection;
  }

  private leave(connection: C): void {
    const waiting = connection.pending && !this.closed;
    const candidates = waiting ? [...this.lingering, connection] : this.lingering;
    this.lingering = candidates.filter((one) => one.pending || one.stands).slice(-MOST_LINGERING);
    for (const one of [connection, ...candidates]) if (!this.lingering.includes(one)) one.close();
  }
}
