/**
 * One connection to one etcd server, made once and never again.
 *
 * gRPC's channel makes new connections by itself, with the credentials that it was given first and after pauses of its
 * own, and waits for ever for a server that accepts and says nothing. So a channel lives here no longer than its first
 * connection, and when to try again, with which files, is decided in one place (`Endpoint`).
 */
import type { Socket } from 'node:net';
import { Channel, ChannelCredentials, connectivityState, Metadata } from '@grpc/grpc-js';
import type { Client } from '@grpc/grpc-js';
import type * as rpc from 'etcd3';
import { Host } from 'etcd3/lib/connection-pool.js';
import { grpcOptions, unary, unreachable } from './grpc-call.js';
import type { EtcdTarget, EtcdTimings } from './options.js';
import { isEndpointFailure } from './store-error.js';

export type ServiceName = keyof typeof rpc.Services;

/** The name of a host may be asked of several name servers, the first of which are gone. */
const RESOLVING_TIMEOUT_MS = 10_000;

export class Link {
  private readonly channel: Channel;
  private readonly host: Host;
  /** Those that TCP has connected. */
  private readonly sockets = new Set<Socket>();
  private reachedAtMs: number | undefined;
  private closed = false;

  constructor(
    private readonly target: EtcdTarget,
    private readonly timings: EtcdTimings,
  ) {
    const credentials = new TrackedCredentials(target.credentials(), (socket) => this.keep(socket));
    this.channel = new Channel(target.address, credentials, grpcOptions(timings, target));
    this.host = new Host(target.address, credentials, { channelOverride: this.channel });
  }

  /** Whether it stands, as far as this side knows. */
  get stands(): boolean {
    return this.channel.getConnectivityState(false) === connectivityState.READY;
  }

  /** Whether it may still come to stand: the server has accepted it, and not begun to speak. */
  get pending(): boolean {
    return this.sockets.size > 0 && this.channel.getConnectivityState(false) === connectivityState.CONNECTING;
  }

  client(service: ServiceName): Client {
    return this.host.getServiceClient(service);
  }

  /**
   * Connects.
   * @throws ServiceError, gRPC's: why it does not stand, or that it does not after so long
   */
  async open(): Promise<void> {
    const { connectTimeoutMs } = this.timings;
    const reachByMs = performance.now() + (this.target.named ? RESOLVING_TIMEOUT_MS : connectTimeoutMs);
    for (;;) {
      const state = this.channel.getConnectivityState(true);
      if (state === connectivityState.READY) return;
      if (state === connectivityState.TRANSIENT_FAILURE) return this.askWhy();
      if (state === connectivityState.SHUTDOWN) throw unreachable('the connection was closed');
      const reached = this.reachedAtMs !== undefined;
      const limitMs = this.reachedAtMs === undefined ? reachByMs : this.reachedAtMs + connectTimeoutMs;
      const leftMs = limitMs - performance.now();
      if (leftMs <= 0) {
        const reason = reached ? 'it accepts connections and says nothing' : 'no answer to the connection attempt';
        throw unreachable(`${reason}; is etcd stuck, or a firewall between?`);
      }
      await new Promise<void>((resolve) => {
        const deadline = Date.now() + Math.ceil(Math.min(leftMs, connectTimeoutMs));
        this.channel.watchConnectivityState(state, deadline, () => resolve());
      });
    }
  }

  close(): void {
    this.closed = true;
    // gRPC forgets a connection in the making without closing it.
    const abandoned = this.stands ? [] : [...this.sockets];
    this.channel.close();
    for (const socket of abandoned) socket.destroy();
  }

  /** gRPC tells why a connection failed to those only who make a call on it. */
  private async askWhy(): Promise<void> {
    const { signal } = new AbortController();
    try {
      await unary(this.client('Maintenance'), 'status', {}, new Metadata(), this.timings.connectTimeoutMs, signal);
    } catch (error) {
      if (isEndpointFailure(error)) throw error;
    }
  }

  private keep(socket: Socket): void {
    if (this.closed) return void socket.destroy();
    this.sockets.add(socket);
    this.reachedAtMs ??= performance.now();
    socket.once('close', () => this.sockets.delete(socket));
  }
}

/** Tells of each socket that TCP has connected, before anything is said on it. */
class TrackedCredentials extends ChannelCredentials {
  constructor(
    private readonly credentials: ChannelCredentials,
    private readonly connected: (socket: Socket) => void,
  ) {
    super();
  }

  override _isSecure(): boolean {
    return this.credentials._isSecure();
  }

  override _equals(other: ChannelCredentials): boolean {
    return other === this;
  }

  override _createSecureConnector(
    ...options: Parameters<ChannelCredentials['_createSecureConnector']>
  ): ReturnType<ChannelCredentials['_createSecureConnector']> {
    const connector = this.credentials._createSecureConnector(...options);
    return {
      connect: (socket) => {
        this.connected(socket);
        return connector.connect(socket);
      },
      waitForReady: () => connector.waitForReady(),
      getCallCredentials: () => connector.getCallCredentials(),
      destroy: () => connector.destroy(),
    };
  }
}
