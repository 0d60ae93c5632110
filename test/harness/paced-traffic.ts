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

export interface TrafficAccount {
  readonly there: DirectionAccount;
  readonly back: DirectionAccount;
  readonly tcp: { readonly bytes: number; readonly intact: boolean };
}

export interface PacedTrafficOptions {
  /** The compiled `paced_traffic.cc`. */
  readonly program: string;
  readonly from: Pod;
  readonly to: Pod;
  /** Datagrams a second, each way. */
  readonly rate: number;
}

const UDP_PORT = 5100;
const TCP_PORT = 5101;
const PAYLOAD_BYTES = 200;

/** One end of the paced datagrams. */
class End {
  readonly #child: ChildProcess;
  #output = '';

  constructor(program: string, rate: number, own: Pod, peer: Pod) {
    this.#child = own.namespace.spawn(
      program,
      [own.address, String(UDP_PORT), peer.address, String(rate), String(PAYLOAD_BYTES)],
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

/** Runs traffic for the time of `body`, and as long as it takes to come to rest. */
export async function withPacedTraffic(
  { program, from, to, rate }: PacedTrafficOptions,
  body: () => Promise<void>,
): Promise<TrafficAccount> {
  const server = new Listener<TcpRecord>(to.namespace, ['tcp-serve', String(TCP_PORT)]);
  const ends = [new End(program, rate, from, to), new End(program, rate, to, from)];
  let stream: Listener<{ sent?: string; received?: string; error?: string }> | undefined;
  try {
    await server.ready();
    await Promise.all(ends.map((end) => end.listening()));
    stream = new Listener(from.namespace, ['tcp-stream', to.address, String(TCP_PORT)]);
    await stream.ready();
    for (const end of ends) end.start();
    await body();
    for (const end of ends) end.stop();
    const stopped = stream.stop();
    const [account, other] = await Promise.all(ends.map((end) => end.account()));
    await stopped;
    const [result] = stream.records;
    return {
      there: direction(account, other),
      back: direction(other, account),
      tcp: {
        bytes: server.records[0]?.bytes ?? 0,
        intact: result?.sent !== undefined && result.sent === result.received,
      },
    };
  } finally {
    for (const end of ends) end.kill();
    await Promise.all([stream?.stop(), server.stop()]);
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
