import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { FlannelError } from '../errors.js';
import type { Namespace } from './namespace.js';

/** How long tcpdump may take to open its device. */
const START_TIMEOUT_MS = 10_000;

/** A real tcpdump on one device of one machine, from `start` to `stop`. */
export class Capture {
  #output = '';
  #complaints = '';

  private constructor(private readonly child: ChildProcess) {
    child.stdout?.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
    child.stderr?.on('data', (chunk: Buffer) => (this.#complaints += chunk.toString()));
  }

  /**
   * Begins to capture; on return, packets are seen.
   * @param filter - in the language of pcap-filter(7)
   * @throws FlannelError `LAB` in tcpdump's own words
   */
  static async start(namespace: Namespace, device: string, filter: string): Promise<Capture> {
    const options = ['-nn', '-t', '-l', '--immediate-mode', '-i', device];
    const capture = new Capture(namespace.spawn('tcpdump', [...options, filter]));
    for (const deadline = Date.now() + START_TIMEOUT_MS; ; await sleep(10)) {
      if (/listening on/.test(capture.#complaints)) return capture;
      if (capture.child.exitCode !== null || capture.child.pid === undefined || Date.now() > deadline) {
        await capture.stop();
        const words = capture.#complaints.trim().split('\n').at(-1) ?? '';
        throw new FlannelError('LAB', `tcpdump on ${device} of ${namespace.name} did not start: ${words}`);
      }
    }
  }

  /** What was seen so far: one line a packet, as tcpdump writes it. */
  get packets(): string[] {
    return this.#output.split('\n').filter((line) => line !== '');
  }

  /** Ends tcpdump and gives all that it saw. */
  async stop(): Promise<string[]> {
    const { child } = this;
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      const closed = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGINT');
      await closed;
    }
    return this.packets;
  }
}
