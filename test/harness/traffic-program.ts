/**
 * What runs inside a namespace of a test: `node traffic-program.js COMMAND ARGUMENTS`. Each command prints lines of JSON;
 * those that listen print `{"listening":PORT}` first and end with their standard input.
 */
import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';
import { get } from 'node:http';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';

const [command, ...args] = process.argv.slice(2);

function say(what: object): void {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

function untilInputEnds(): void {
  process.stdin.on('end', () => process.exit(0)).resume();
}

/** Pseudo-random bytes, the same for the same seed on both sides (xorshift32). */
function* blocks(totalBytes: number): Generator<Buffer> {
  let state = 0x9e3779b9;
  for (let left = totalBytes; left > 0;) {
    const block = Buffer.allocUnsafe(Math.min(left, 65_536) & ~3);
    for (let at = 0; at < block.length; at += 4) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      block.writeInt32LE(state | 0, at);
    }
    left -= block.length;
    yield block;
  }
}

const commands: Record<string, () => Promise<void> | void> = {
  /** tcp-serve PORT: takes connections; tells for each the peer, the bytes and their hash, and answers with the hash. */
  'tcp-serve'() {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      const hash = createHash('sha256');
      let bytes = 0;
      socket.on('data', (chunk) => {
        hash.update(chunk);
        bytes += chunk.length;
      });
      socket.on('error', () => undefined);
      socket.on('end', () => {
        const sha256 = hash.digest('hex');
        say({ peer: socket.remoteAddress, bytes, sha256 });
        socket.end(sha256);
      });
    });
    server.listen(Number(args[0]), '0.0.0.0', () => say({ listening: Number(args[0]) }));
    untilInputEnds();
  },

  /** tcp-send HOST PORT BYTES: sends so many bytes; tells their hash here and there. */
  'tcp-send'() {
    const [host, port, bytes] = args;
    const socket = connect({ host, port: Number(port), allowHalfOpen: true }, () => void send());
    const send = async (): Promise<void> => {
      const hash = createHash('sha256');
      for (const block of blocks(Number(bytes))) {
        hash.update(block);
        if (!socket.write(block)) await new Promise((resolve) => socket.once('drain', resolve));
      }
      socket.end();
      say({ sent: hash.digest('hex'), received: await text(socket) });
      process.exit(0);
    };
    socket.setTimeout(30_000, () => socket.destroy(new Error('nothing moved for 30 s')));
    socket.on('error', (error) => {
      say({ error: error.message });
      process.exit(1);
    });
  },

  /** tcp-stream HOST PORT PAUSE_MS: sends 64 KB a pause until its input ends; tells the bytes' hash here and there. */
  'tcp-stream'() {
    const [host, port, pauseMs] = args;
    const socket = connect({ host, port: Number(port), allowHalfOpen: true }, () => {
      say({ listening: socket.localPort });
      const hash = createHash('sha256');
      const source = blocks(Infinity);
      const pace = setInterval(() => {
        if (socket.writableNeedDrain) return;
        const block = source.next().value as Buffer;
        hash.update(block);
        socket.write(block);
      }, Number(pauseMs));
      process.stdin
        .on('end', () => {
          clearInterval(pace);
          socket.end();
          void text(socket).then((received) => {
            say({ sent: hash.digest('hex'), received });
            process.exit(0);
          });
        })
        .resume();
    });
    socket.setTimeout(30_000, () => socket.destroy(new Error('nothing moved for 30 s')));
    socket.on('error', (error) => {
      say({ error: error.message });
      process.exit(1);
    });
  },

  /** udp-listen PORT [ADDRESS]: tells each datagram's sender, size and hash; echoes it when ECHO follows. */
  'udp-listen'() {
    const socket = createSocket('udp4');
    socket.on('message', (message, sender) => {
      const sha256 = createHash('sha256').update(message).digest('hex');
      say({
        from: sender.address,
        port: sender.port,
        bytes: message.length,
        sha256,
        text: message.subarray(0, 64).toString(),
      });
      if (args[1] === 'echo') socket.send(message, sender.port, sender.address);
    });
    socket.bind(Number(args[0]), '0.0.0.0', () => say({ listening: Number(args[0]) }));
    untilInputEnds();
  },

  /** udp-send HOST PORT [FROM]: sends each line of standard input, in hexadecimal, as a datagram; tells how it went. */
  async 'udp-send'() {
    const [host, port, from] = args;
    const socket = createSocket('udp4');
    await new Promise<void>((resolve) => socket.bind(0, from, resolve));
    for await (const line of createInterface({ input: process.stdin })) {
      await new Promise<void>((resolve) => {
        socket.send(Buffer.from(line, 'hex'), Number(port), host, (error) => {
          say({ result: error === null ? 'ok' : ((error as NodeJS.ErrnoException).code ?? error.message) });
          resolve();
        });
      });
    }
    socket.close();
  },

  /** udp-echo HOST PORT SIZE,SIZE,…: sends datagrams of these sizes and tells which came back whole. */
  async 'udp-echo'() {
    const [host, port, sizes] = args;
    const socket = createSocket('udp4');
    await new Promise<void>((resolve) => socket.bind(0, resolve));
    const intact: number[] = [];
    for (const size of sizes.split(',').map(Number)) {
      const message = Buffer.alloc(size, `${size} bytes `);
      const answer = new Promise<Buffer | undefined>((resolve) => {
        const timer = setTimeout(() => resolve(undefined), 5_000);
        socket.once('message', (received) => {
          clearTimeout(timer);
          resolve(received);
        });
      });
      socket.send(message, Number(port), host);
      if ((await answer)?.equals(message) === true) intact.push(size);
    }
    socket.close();
    say({ intact });
  },

  /** http-get URL: tells status and body. */
  'http-get'() {
    get(args[0], (response) => {
      void text(response).then((body) => {
        say({ status: response.statusCode, body, type: response.headers['content-type'] });
        process.exit(0);
      });
    }).on('error', (error) => {
      say({ error: error.message });
      process.exit(0);
    });
  },
};

void commands[command]();
