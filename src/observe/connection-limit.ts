import type { Socket } from 'node:net';

/**
 * Bounds how many connections a server has. When one more comes, the oldest gives way: a client that takes connections
 * and says nothing does not keep the next one out, as it would if newcomers were turned away.
 */
export class ConnectionLimit {
  /** In the order they came. */
  readonly #open = new Set<Socket>();

  constructor(private readonly maximum: number) {}

  admit(socket: Socket): void {
    this.#open.add(socket);
    socket.once('close', () => this.#open.delete(socket));
    if (this.#open.size <= this.maximum) return;
    const [oldest] = this.#open;
    this.#open.delete(oldest);
    oldest.destroy();
  }

  /** No longer gives way: it carries a stream, and counts among those. */
  keep(socket: Socket): void {
    this.#open.delete(socket);
  }
}
