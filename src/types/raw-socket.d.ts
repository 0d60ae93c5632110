/** What this project uses of the `raw-socket` package, which ships no types. */
declare module 'raw-socket' {
  import type { EventEmitter } from 'node:events';

  namespace rawSocket {
    interface Socket extends EventEmitter {
      /** Queues `length` bytes at `offset` for a dotted-quad `address`; `after` is told of the outcome. */
      send(
        buffer: Buffer,
        offset: number,
        length: number,
        address: string,
        after: (error: Error | null, bytes: number) => void,
      ): this;
      /** setsockopt(2) with an integer. @throws Error the kernel's complaint */
      setOption(level: number, option: number, value: number): void;
      close(): this;
    }

    interface SocketOptions {
      /** IP protocol number; 255 (IPPROTO_RAW) sends packets that bring their own IP header, and receives nothing. */
      readonly protocol?: number;
      /** Bytes set aside for received packets. */
      readonly bufferSize?: number;
    }
  }

  const rawSocket: {
    /** @throws Error the kernel's complaint, for one when CAP_NET_RAW is missing */
    createSocket(options: rawSocket.SocketOptions): rawSocket.Socket;
  };
  export = rawSocket;
}
