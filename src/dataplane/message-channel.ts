/** Messages with descriptors between two processes of this host: connections of SOCK_SEQPACKET, which Node has no part in. */
import { constants } from 'node:os';
import { addon, checked, closeFd } from './native.js';
import { peerIdentity } from './rights.js';

export interface Message {
  readonly text: string;
  /** The receiver's from then on. */
  readonly fds: readonly number[];
}

const AGAIN = -constants.errno.EAGAIN;

/** One end of a connection. */
export class MessageChannel {
  readonly #fd: number;
  readonly #watch: object;
  readonly #arrived: Message[] = [];
  #waiting: (() => void) | undefined;
  #ended = false;
  #closed = false;

  /** @throws FlannelError `HOST` where nobody listens at `path` */
  static connect(path: string): MessageChannel {
    return new MessageChannel(
      checked(addon().connectForMessages(path), ({ text }) => `cannot connect to ${path}: ${text}`),
    );
  }

  /**
   * @param fd - the channel's from then on, also when this fails
   * @throws FlannelError `HOST` where it cannot be watched
   */
  constructor(fd: number) {
    this.#fd = fd;
    this.#watch = watched(fd, () => this.#read());
  }

  /** The user that the other end runs as; `undefined` where the kernel does not say. */
  get peerUser(): number | undefined {
    return peerIdentity(this.#fd)?.uid;
  }

  /** @throws FlannelError `HOST` when the other end is gone */
  send(text: string, fds: readonly number[] = []): void {
    checked(addon().sendMessage(this.#fd, text, fds), (reason) => `the other process does not listen: ${reason.text}`);
  }

  /** The next message; `undefined` when the other end is closed, or none comes in time. See {@link ended}. */
  async receive(withinMs: number): Promise<Message | undefined> {
    const deadline = performance.now() + withinMs;
    for (;;) {
      const message = this.#arrived.shift();
      if (message !== undefined) return message;
      const leftMs = deadline - performance.now();
      if (this.#ended || leftMs <= 0) return undefined;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(leftMs, 2 ** 31 - 1));
        this.#waiting = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** The other end is closed, by its process or with it. */
  get ended(): boolean {
    return this.#ended;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (!this.#ended) addon().unwatch(this.#watch);
    this.#ended = true;
    closeFd(this.#fd);
    for (const { fds } of this.#arrived.splice(0)) fds.forEach(closeFd);
    this.#waiting?.();
  }

  #read(): void {
    const received = addon().receiveMessage(this.#fd);
    if (received === AGAIN) return;
    if (typeof received === 'number') {
      this.#ended = true;
      addon().unwatch(this.#watch);
    } else {
      const [text, ...fds] = received;
      this.#arrived.push({ text, fds });
    }
    this.#waiting?.();
  }
}

/** Takes connections until it is closed. */
export class MessageListener {
  readonly #fd: number;
  readonly #watch: object;

  /** @throws FlannelError `HOST` */
  constructor(path: string, onConnection: (channel: MessageChannel) => void) {
    this.#fd = checked(addon().listenForMessages(path), ({ text }) => `cannot listen at ${path}: ${text}`);
    this.#watch = watched(this.#fd, () => {
      const fd = addon().acceptConnection(this.#fd);
      if (fd >= 0) onConnection(new MessageChannel(fd));
    });
  }

  close(): void {
    addon().unwatch(this.#watch);
    closeFd(this.#fd);
  }
}

/** Closes what cannot be watched. @throws FlannelError `HOST` */
function watched(fd: number, onReadable: () => void): object {
  const watch = addon().watchReadable(fd, onReadable);
  if (typeof watch === 'object') return watch;
  closeFd(fd);
  return checked(watch, ({ text }) => `cannot watch a socket: ${text}`) as never;
}
