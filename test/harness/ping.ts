import { setTimeout as sleep } from 'node:timers/promises';
import type { Namespace } from '../../src/lab/namespace.js';
import type { ChildProcess } from 'node:child_process';

/** What ping(8) reports. */
export interface PingResult {
  readonly sent: number;
  readonly received: number;
  /** Everything printed, for ICMP errors. */
  readonly output: string;
}

export interface PingOptions {
  readonly count?: number;
  /** Bytes of payload; the IP packet has 28 more. */
  readonly payloadBytes?: number;
  /** `-M do`: forbid fragmentation. */
  readonly dontFragment?: boolean;
  readonly ttl?: number;
  /** Between one and the next; all at once when absent. Then ping(8) waits no longer than this for the last answers. */
  readonly intervalSeconds?: number;
  /** How long to wait for answers; default 2 s. */
  readonly waitSeconds?: number;
  readonly extra?: readonly string[];
}

/** Pings from a namespace; never fails by itself. */
export async function ping(from: Namespace, to: string, options: PingOptions = {}): Promise<PingResult> {
  const { stdout, stderr } = await from.exec('ping', pingArguments(to, options), { allowFailure: true });
  return parsePing(stdout + stderr);
}

function pingArguments(to: string, options: PingOptions): string[] {
  const { count = 3, payloadBytes, dontFragment, ttl, waitSeconds = 2, extra = [] } = options;
  const { intervalSeconds = count === 0 ? 0.02 : undefined } = options;
  return [
    '-n',
    ...(count === 0 ? [] : ['-c', String(count)]),
    // Once one answer has come, ping(8) waits for the others not for `-W`, but for one interval.
    ...(intervalSeconds === undefined
      ? ['-l', String(count), '-i', String(waitSeconds)]
      : ['-i', String(intervalSeconds)]),
    ...['-W', String(waitSeconds)],
    ...(payloadBytes === undefined ? [] : ['-s', String(payloadBytes)]),
    ...(dontFragment === true ? ['-M', 'do'] : []),
    ...(ttl === undefined ? [] : ['-t', String(ttl)]),
    ...extra,
    to,
  ];
}

function parsePing(output: string): PingResult {
  const [, sent = '0', received = '0'] = /(\d+) packets transmitted, (\d+) received/.exec(output) ?? [];
  return { sent: Number(sent), received: Number(received), output };
}

/** How long an answer may take on a machine that has much else to do. */
const ANSWER_TIMEOUT_MS = 5_000;

/** A ping that goes on while something else happens. */
export class SteadyPing {
  readonly #child: ChildProcess;
  #output = '';

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
    child.stderr?.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
  }

  /** Starts and returns once the first answer has come. */
  static async start(from: Namespace, to: string, options: PingOptions = {}): Promise<SteadyPing> {
    const steady = new SteadyPing(from.spawn('ping', pingArguments(to, { count: 0, waitSeconds: 5, ...options })));
    for (const deadline = Date.now() + 30_000; !steady.#output.includes('bytes from'); await sleep(20)) {
      if (Date.now() > deadline) throw new Error(`no answer to ping ${to}: ${steady.#output}`);
    }
    return steady;
  }

  /** Ends it and tells how it went. What is under way when this is called gets time to be answered. */
  async stop(): Promise<PingResult> {
    const sent = await this.#sentSoFar();
    for (const deadline = Date.now() + ANSWER_TIMEOUT_MS; this.#answered(sent) < sent; await sleep(20)) {
      if (Date.now() > deadline) break;
    }
    const ended = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.kill('SIGINT');
    await ended;
    return { sent, received: this.#answered(sent), output: this.#output };
  }

  /** Upon SIGQUIT, ping(8) tells how it goes: `300/299 packets, 0% loss`. */
  async #sentSoFar(): Promise<number> {
    this.#child.kill('SIGQUIT');
    for (const deadline = Date.now() + ANSWER_TIMEOUT_MS; ; await sleep(20)) {
      const sent = /(\d+)\/\d+ packets, /.exec(this.#output)?.[1];
      if (sent !== undefined) return Number(sent);
      if (Date.now() > deadline) throw new Error(`ping does not tell how it goes: ${this.#output}`);
    }
  }

  /** How many of the first `sent` pings are answered. */
  #answered(sent: number): number {
    const answers = [...this.#output.matchAll(/bytes from .* icmp_seq=(\d+)/g)].map(([, sequence]) => Number(sequence));
    return new Set(answers.filter((sequence) => sequence <= sent)).size;
  }
}
