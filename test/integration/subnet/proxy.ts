/** A TCP proxy before etcd: the network between, to be cut, stuck and mended while etcd itself goes on. */
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';

export class Proxy {
  /** Connections that were attempted. */
  accepted = 0;
  private mode: 'open' | 'refusing' | 'stuck' = 'open';
  private readonly sockets = new Set<Socket>();

  private constructor(
    private readonly server: Server,
    private readonly etcd: URL,
  ) {}

  /** Stands before the first of these endpoints. */
  static async before(endpoints: readonly string[]): Promise<Proxy> {
    const server = createServer();
    const proxy = new Proxy(server, new URL(endpoints[0]));
    server.on('connection', (socket) => proxy.accept(socket));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get endpoint(): string {
    return `${this.etcd.protocol}//127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Connections that stand now, to it and from it. */
  get open(): number {
    return this.sockets.size;
  }

  /** Ends all connections, and every new one at once. */
  cut(): void {
    this.mode = 'refusing';
    for (const socket of this.sockets) socket.destroy();
  }

  /** Carries nothing any more, while every connection stays open: what a firewall that forgot them looks like. */
  stick(): void {
    this.mode = 'stuck';
    for (const socket of this.sockets) socket.pause();
  }

  /** Carries again; what was stuck is gone. */
  mend(): void {
    for (const socket of this.sockets) socket.destroy();
    this.mode = 'open';
  }

  close(): void {
    this.cut();
    this.server.close();
  }

  private accept(client: Socket): void {
    this.accepted++;
    if (this.mode === 'refusing') return void client.destroy();
    this.keep(client);
    // Read, so that its end is noticed.
    if (this.mode === 'stuck') return void client.resume();
    const etcd = connect(Number(this.etcd.port), this.etcd.hostname);
    this.keep(etcd);
    const carry = (from: Socket, to: Socket) => {
      from.on('data', (data) => this.mode === 'stuck' || to.write(data));
      from.on('close', () => to.destroy());
    };
    carry(client, etcd);
    carry(etcd, client);
  }

  private keep(socket: Socket): void {
    this.sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => this.sockets.delete(socket));
  }
}
