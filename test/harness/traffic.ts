/** Traffic of tests: TCP, UDP and HTTP between namespaces, each end a process of its own. */
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Namespace } from '../../src/lab/namespace.js';
import { until } from './until.js';

const PROGRAM = fileURLToPath(new URL('./traffic-program.js', import.meta.url));

/** A process in a namespace that tells one record after another, such as what arrives on a socket. */
export class Listener<Record> {
  readonly records: Record[] = [];
  readonly #child: ChildProcess;
  #rest = '';
  #listening = false;

  /** @param program - a compiled program that says `{"listening":…}` once it does */
  constructor(namespace: Namespace, args: readonly string[], program = PROGRAM) {
    this.#child = namespace.spawn(process.execPath, [program, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.stdout?.on('data', (chunk: Buffer) => {
      const lines = (this.#rest + chunk.toString()).split('\n');
      this.#rest = lines.pop() ?? '';
      for (const line of lines) {
        const said = JSON.parse(line) as object;
        if ('listening' in said) this.#listening = true;
        else this.records.push(said as Record);
      }
    });
  }

  write(text: string): void {
    this.#child.stdin?.write(text);
  }

  async ready(): Promise<this> {
    await until('a listener of the test listens', () => this.#listening);
    return this;
  }

  /** Waits until it has at least so many records. */
  async has(count: number): Promise<readonly Record[]> {
    await until(`${count} arrive`, () => this.records.length >= count, {
      withinMs: 10_000,
      everyMs: 5,
      evidence: () => `there are ${this.records.length}: ${JSON.stringify(this.records.slice(-5))}`,
    });
    return this.records;
  }

  /** Ends it as nothing can that it does itself. */
  async kill(): Promise<void> {
    if (this.#hasEnded) return;
    const ended = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.kill('SIGKILL');
    await ended;
  }

  async stop(): Promise<void> {
    if (this.#hasEnded) return;
    const ended = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.stdin?.end();
    await ended;
  }

  get #hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }
}

/** One connection that a `tcp-serve` listener took. */
export interface TcpRecord {
  readonly peer: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** One datagram that a `udp-listen` listener got. */
export interface UdpRecord {
  readonly from: string;
  readonly port: number;
  readonly bytes: number;
  readonly sha256: string;
  /** The first 64 bytes. */
  readonly text: string;
}

/** Takes TCP connections for the time of `body`. */
export function withTcpServer<T>(
  namespace: Namespace,
  port: number,
  body: (server: Listener<TcpRecord>) => Promise<T>,
): Promise<T> {
  return withListener(new Listener<TcpRecord>(namespace, ['tcp-serve', String(port)]), body);
}

/** Takes datagrams until it is stopped. */
export function listenUdp(namespace: Namespace, port: number): Promise<Listener<UdpRecord>> {
  return new Listener<UdpRecord>(namespace, ['udp-listen', String(port)]).ready();
}

/** Takes datagrams for the time of `body`, sending them back when asked to. */
export function withUdpListener<T>(
  namespace: Namespace,
  port: number,
  body: (listener: Listener<UdpRecord>) => Promise<T>,
  echo = false,
): Promise<T> {
  return withListener(
    new Listener<UdpRecord>(namespace, ['udp-listen', String(port), ...(echo ? ['echo'] : [])]),
    body,
  );
}

async function withListener<R, T>(listener: Listener<R>, body: (listener: Listener<R>) => Promise<T>): Promise<T> {
  try {
    return await body(await listener.ready());
  } finally {
    await listener.stop();
  }
}

async function run<T>(namespace: Namespace, args: readonly string[], input?: string): Promise<T> {
  const { stdout } = await namespace.exec(process.execPath, [PROGRAM, ...args], {
    input,
    allowFailure: true,
    timeoutMs: 60_000,
  });
  return JSON.parse(stdout) as T;
}

/** Sends bytes to a `withTcpServer`; both hashes are equal when they arrived whole. */
export function sendTcp(
  from: Namespace,
  to: string,
  port: number,
  bytes: number,
): Promise<{ readonly sent?: string; readonly received?: string; readonly error?: string }> {
  return run(from, ['tcp-send', to, String(port), String(bytes)]);
}

/** Sends datagrams from one socket of a namespace, for as long as it is not closed. */
export class DatagramSender {
  readonly #process: Listener<{ readonly result: string }>;

  /** @param sourceAddress - an address of the namespace's to send from */
  constructor(namespace: Namespace, to: string, port: number, sourceAddress?: string) {
    const from = sourceAddress === undefined ? [] : [sourceAddress];
    this.#process = new Listener(namespace, ['udp-send', to, String(port), ...from]);
  }

  /** Sends them in turn; resolves when they are sent, with `ok` or the error's code for each. */
  async send(...datagrams: readonly Buffer[]): Promise<readonly string[]> {
    const before = this.#process.records.length;
    this.#process.write(datagrams.map((datagram) => `${datagram.toString('hex')}\n`).join(''));
    const records = await this.#process.has(before + datagrams.length);
    return records.slice(before).map(({ result }) => result);
  }

  close(): Promise<void> {
    return this.#process.stop();
  }
}

/** Sends datagrams of these sizes to an echoing listener; gives the sizes that came back whole. */
export async function echoDatagrams(
  from: Namespace,
  to: string,
  port: number,
  sizes: readonly number[],
): Promise<readonly number[]> {
  return (await run<{ intact: number[] }>(from, ['udp-echo', to, String(port), sizes.join(',')])).intact;
}

export interface HttpAnswer {
  readonly status?: number;
  readonly body?: string;
  readonly type?: string;
  /** Why there was no answer. */
  readonly error?: string;
}

/** Asks a server that only a namespace reaches. */
export function httpGet(from: Namespace, url: string): Promise<HttpAnswer> {
  return run(from, ['http-get', url]);
}
