/** The stand-in for systemd, `service_manager.cc`, and the daemon that it keeps running. */
import type { ChildProcess } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ClusterNode } from './cluster.js';
import { FLANNELD } from './daemon.js';
import { until } from './until.js';

export interface ServiceManagerOptions {
  /** The compiled `service_manager.cc`. */
  readonly program: string;
  readonly node: ClusterNode;
  readonly flags?: readonly string[];
  /** What it runs in place of `flanneld`, with the same flags. */
  readonly daemon?: string;
  /** For what the daemon writes; by default the node's. */
  readonly folder?: string;
  /** `FileDescriptorStoreMax`; 0: it keeps nothing. */
  readonly storeMax?: number;
  /** `RestartSec`, after an end that nobody asked for. */
  readonly restartMs?: number;
  /** All that the service has in its environment beside PATH, as under systemd: what the caller has is not handed on. */
  readonly environment?: Readonly<Record<string, string>>;
}

export class ServiceManager {
  readonly subnetFile: string;
  readonly controlSocket: string;
  readonly #log: string;
  readonly #child: ChildProcess;
  #output = '';
  #closed = false;

  constructor({
    program,
    node,
    flags = [],
    daemon = FLANNELD,
    folder = node.folder,
    storeMax = 512,
    restartMs = 100,
    environment = {},
  }: ServiceManagerOptions) {
    this.subnetFile = join(folder, 'subnet.env');
    this.controlSocket = join(folder, 'flanneld.sock');
    this.#log = join(node.folder, 'service.log');
    const files = [`--subnet-file=${this.subnetFile}`, `--control-socket=${this.controlSocket}`];
    const store = `--etcd-endpoints=${node.cluster.endpoint}`;
    const variables = Object.entries({ PATH: process.env.PATH ?? '', ...environment });
    this.#child = node.namespace.spawn(
      'env',
      [
        ...['-i', ...variables.map(([name, value]) => `${name}=${value}`)],
        ...['setpriv', '--pdeathsig', 'KILL', program, join(node.folder, 'notify'), this.#log],
        ...[String(storeMax), String(restartMs), daemon, store, ...files, ...flags],
      ],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
    this.#child.once('close', () => (this.#closed = true));
  }

  /** What has happened, a line each: see `service_manager.cc`. */
  get events(): string[] {
    return this.#output.split('\n').slice(0, -1);
  }

  /** What every run of the daemon has printed. */
  get log(): string {
    return existsSync(this.#log) ? readFileSync(this.#log, 'utf8') : '';
  }

  /** Gives a command, and waits for an event that it brings. */
  async tell(command: 'start' | 'stop' | 'restart' | 'kill' | 'store', event: RegExp): Promise<string> {
    const before = this.events.length;
    this.#child.stdin?.write(`${command}\n`);
    return this.happens(event, before);
  }

  /** Waits for an event after the first `since` of them. */
  happens(event: RegExp, since: number): Promise<string> {
    return until(
      `the service manager tells ${String(event)}`,
      () => {
        const found = this.events.slice(since).find((one) => event.test(one));
        if (found === undefined && this.#closed) throw new Error(`the service manager ended before ${String(event)}`);
        return found;
      },
      {
        everyMs: 10,
        evidence: () =>
          `events:\n${this.events.slice(-20).join('\n')}\nlog:\n${this.log.split('\n').slice(-25).join('\n')}`,
      },
    );
  }

  /** Starts the service anew by a command, and waits until it is ready. */
  async untilReady(command: 'start' | 'restart' | 'kill'): Promise<void> {
    const before = this.events.length;
    await this.tell(command, /^started /);
    await this.happens(/^notified READY=1/, before);
  }

  /** Ends the service and what is kept of it. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.stdin?.end();
    await ended;
  }
}
