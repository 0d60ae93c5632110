/** Traffic between two pods whose every packet is accounted for: datagrams at a steady rate each way, and a TCP stream. */
import type { ChildProcess } from 'node:child_process';
import type { Pod } from './cluster.js';
import { Listener, type TcpRecord } from './traffic.js';
import { until } from './until.js';

/** What `paced_traffic.cc` says at its end. */
interface EndAccount {
  readonly sent: number;
  readonly refused: number;
  readonly received: number;
  readonly duplicates: number;
  readonly overtaken: number;
  readonly longestGapMs: number;
}

/** What became of the datagrams of one direction. */
export interface DirectionAccount {
  readonly sent: number;
  readonly lost: number;
  readonly duplicates: number;
  /** Those that came after one with a higher number. */
  readonly outOfOrder: number;
  /** Between two arrivals. */
  readonly longestGapMs: number;
}

export interface FlowAccount {
  readonly there: DirectionAccount;
  readonly back: DirectionAccount;
}

/** What became of a stream. */
export interface StreamAccount {
  readonly bytes: number;
  readonly intact: boolean;
  /** Why it is not intact. */
  readonly trouble?: string;
}

export interface TrafficAccount extends FlowAccount {
  readonly tcp: StreamAccount;
}

export interface PacedTrafficOptions {
  /** The compiled `paced_traffic.cc`. */
  readonly program: string;
  readonly from: Pod;
  readonly to: Pod;
  /** Datagrams a second, each way. */
  readonly rate: number;
}

export interface PacedFlowOptions extends PacedTrafficOptions {
  /** At both ends; default 5100. */
  readonly port?: number;
  /** Of each datagram; default 200. */
  readonly payloadBytes?: number;
  /** No more than so many each way. */
  readonly count?: number;
}

const UDP_PORT = 5100;
const TCP_PORT = 5101;
const PAYLOAD_BYTES = 200;
/** Some 50 Mbit/s. */
const STREAM_PAUSE_MS = 10;

/** One end of the paced datagrams. */
class End {
  readonly #child: ChildProcess;
  #output = '';

  constructor({ program, rate, port, payloadBytes, count }: PacedFlowOptions, own: Pod, peer: Pod) {
    const numbers = [rate, payloadBytes ?? PAYLOAD_BYTES, ...(count === undefined ? [] : [count])];
    this.#child = own.namespace.spawn(
      program,
      [own.address, String(port ?? UDP_PORT), peer.address, ...numbers.map(String)],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
  }

  async listening(): Promise<void> {
    await until('paced traffic listens', () => this.#output.includes('listening\n'), { everyMs: 10 });
  }

  start(): void {
    this.#child.stdin?.write('start\n');
  }

  stop(): void {
    this.#child.stdin?.end();
  }

  async account(): Promise<EndAccount> {
    await until('paced traffic ends', () => this.#child.exitCode !== null && this.#output.endsWith('}\n'));
    return JSON.parse(this.#output.slice(this.#output.indexOf('{'))) as EndAccount;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

/** Numbered datagrams between two pods, each way. */
export class PacedFlow {
  readonly #ends: readonly End[];

  /** Stands ready once `listening` has resolved. */
  constructor(options: PacedFlowOptions) {
    const { from, to } = options;
    this.#ends = [new End(options, from, to), new End(options, to, from)];
  }

  async listening(): Promise<void> {
    await Promise.all(this.#ends.map((end) => end.listening()));
  }

  start(): void {
    for (const end of this.#ends) end.start();
  }

  /** Sends no more, takes what is under way, and tells what became of all. */
  async stop(): Promise<FlowAccount> {
    for (const end of this.#ends) end.stop();
    const [account, other] = await Promise.all(this.#ends.map((end) => end.account()));
    return { there: direction(account, other), back: direction(other, account) };
  }

  kill(): void {
    for (const end of this.#ends) end.kill();
  }
}

/** What the sender of a stream says at its end: the hash of what it sent and the hash that came back, or what went wrong. */
type StreamEnd = { readonly sent: string; readonly received: string } | { readonly error: string };

/** @returns why a stream did not arrive as it was sent; `undefined` when it did */
export function streamTrouble(end: StreamEnd | undefined): string | undefined {
  if (end === undefined) return 'its sender ended without a word';
  if ('error' in end) return `its connection broke: ${end.error}`;
  if (end.received === '') return 'its connection was closed by the receiver';
  return end.sent === end.received ? undefined : 'other bytes arrived than were sent';
}

/** A TCP stream between two pods, whose bytes are held against what was sent. */
export class CheckedStream {
  readonly #server: Listener<TcpRecord>;
  readonly #client: Listener<StreamEnd>;

  private constructor(server: Listener<TcpRecord>, from: Pod, to: Pod, pauseMs: number) {
    this.#server = server;
    this.#client = new Listener(from.namespace, ['tcp-stream', to.address, String(TCP_PORT), String(pauseMs)]);
  }

  /** @param pauseMs - between two blocks of 64 KB */
  static async start(from: Pod, to: Pod, pauseMs = STREAM_PAUSE_MS): Promise<CheckedStream> {
    const server = await new Listener<TcpRecord>(to.namespace, ['tcp-serve', String(TCP_PORT)]).ready();
    const stream = new CheckedStream(server, from, to, pauseMs);
    await stream.#client.ready();
    return stream;
  }

  async stop(): Promise<StreamAccount> {
    await this.close();
    const trouble = streamTrouble(this.#client.records.at(0));
    return { bytes: this.#server.records.at(0)?.bytes ?? 0, intact: trouble === undefined, trouble };
  }

  async close(): Promise<void> {
    await this.#client.stop();
    await this.#server.stop();
  }
}

/** Runs traffic for the time of `body`, and as long as it takes to come to rest. */
export async function withPacedTraffic(
  options: PacedTrafficOptions,
  body: () => Promise<void>,
): Promise<TrafficAccount> {
  const flow = new PacedFlow(options);
  let stream: CheckedStream | undefined;
  try {
    await flow.listening();
    stream = await CheckedStream.start(options.from, options.to);
    flow.start();
    await body();
    const [account, tcp] = await Promise.all([flow.stop(), stream.stop()]);
    return { ...account, tcp };
  } finally {
    flow.kill();
    await stream?.close();
  }
}

function direction(sender: EndAccount, receiver: EndAccount): DirectionAccount {
  return {
    sent: sender.sent,
    lost: sender.sent - receiver.received,
    duplicates: receiver.duplicates,
    outOfOrder: receiver.overtaken,
    longestGapMs: receiver.longestGapMs,
  };
}
