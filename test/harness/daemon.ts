import type { ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Namespace } from '../../src/lab/namespace.js';
import type { LeaseAnswer, StatusAnswer, VersionAnswer } from '../../src/observe/control-protocol.js';
import { until } from './until.js';

/** The checkout this runs in; compiled, this file is dist/test/harness/daemon.js. */
export const ROOT = resolve(fileURLToPath(import.meta.url), '../../../..');
export const FLANNELD = join(ROOT, 'bin/flanneld');
export const FLANNELCTL = join(ROOT, 'bin/flannelctl');

/** `FLANNELD_UNDER_TEST` holds the tests' expectations against another flanneld; what only ours does fails then. */
const UNDER_TEST = process.env.FLANNELD_UNDER_TEST ?? FLANNELD;

/** How a process ended. */
export interface Ending {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  /** From the asking (`stop`) to the end. */
  readonly afterMs: number;
}

export interface DaemonOptions {
  readonly environment?: Readonly<Record<string, string>>;
  /** Another program with the same flags, such as flannel's own. */
  readonly program?: string;
}

interface ControlAnswers {
  '/v1/status': StatusAnswer;
  '/v1/leases': readonly LeaseAnswer[];
  '/v1/version': VersionAnswer;
}

/** A running `flanneld` and what it says. */
export class Daemon {
  readonly subnetFile: string;
  readonly controlSocket: string;
  readonly #program: string;
  #output = '';
  readonly #child: ChildProcess;
  readonly #ended: Promise<Omit<Ending, 'afterMs'>>;
  #running = true;
  /** The inode of the subnet file before the start: each writing replaces the file. */
  readonly #oldSubnetFile: string | undefined;

  constructor(
    namespace: Namespace,
    folder: string,
    flags: readonly string[],
    { environment, program = UNDER_TEST }: DaemonOptions = {},
  ) {
    this.subnetFile = flagValue(flags, 'subnet-file') ?? join(folder, 'subnet.env');
    this.controlSocket = flagValue(flags, 'control-socket') ?? join(folder, 'flanneld.sock');
    this.#oldSubnetFile = identityOf(this.subnetFile);
    this.#program = program;
    const ownFlags = program === FLANNELD ? [`--control-socket=${this.controlSocket}`] : [];
    // The kernel ends it with the test, however that ends.
    this.#child = namespace.spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', program, `--subnet-file=${this.subnetFile}`, ...ownFlags, ...flags],
      { environment },
    );
    const take = (chunk: Buffer): void => {
      this.#output += chunk.toString();
    };
    this.#child.stdout?.on('data', take);
    this.#child.stderr?.on('data', take);
    this.#ended = new Promise((resolve) => {
      // `close` comes after the last of the output.
      this.#child.once('close', (status, signal) => {
        this.#running = false;
        resolve({ status, signal });
      });
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('flanneld could not be started');
    return this.#child.pid;
  }

  get running(): boolean {
    return this.#running;
  }

  /** All that it has printed, standard output and standard error in one. */
  get output(): string {
    return this.#output;
  }

  get lines(): string[] {
    return this.#output.split('\n').filter((line) => line !== '');
  }

  /** The lines that match. */
  said(pattern: RegExp): string[] {
    return this.lines.filter((line) => pattern.test(line));
  }

  /** Waits for a line, among those of earlier too. */
  saying(pattern: RegExp, withinMs?: number): Promise<string> {
    return this.#until(`flanneld says ${String(pattern)}`, () => this.said(pattern)[0], withinMs);
  }

  /** Waits until it has written its subnet file, which is the last thing before it is ready. */
  async ready(withinMs?: number): Promise<this> {
    const written = (): boolean => {
      const now = identityOf(this.subnetFile);
      return now !== undefined && now !== this.#oldSubnetFile;
    };
    await this.#until(`flanneld writes ${this.subnetFile}`, written, withinMs);
    return this;
  }

  /** The subnet file as variables. */
  get subnetEnv(): Record<string, string> {
    const lines = readFileSync(this.subnetFile, 'utf8').trim().split('\n');
    return Object.fromEntries(lines.map((line) => line.split('=', 2) as [string, string]));
  }

  /** Asks on the control socket. */
  ask<Path extends keyof ControlAnswers>(path: Path): Promise<ControlAnswers[Path]> {
    return new Promise((resolve, reject) => {
      const asked = request({ socketPath: this.controlSocket, path, timeout: 10_000 }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => resolve(JSON.parse(Buffer.concat(chunks).toString()) as ControlAnswers[Path]));
      });
      asked.on('timeout', () => asked.destroy(new Error(`no answer on ${this.controlSocket}`)));
      asked.on('error', reject);
      asked.end();
    });
  }

  status(): Promise<StatusAnswer> {
    return this.ask('/v1/status');
  }

  /** Packets dropped so far, by direction and reason. */
  async drops(direction: 'encap' | 'decap', reason: string): Promise<number> {
    return (await this.status()).backend?.[direction].dropped[reason] ?? 0;
  }

  /** Sends a signal and waits for the end. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ending> {
    const askedAtMs = performance.now();
    this.#child.kill(signal);
    return { ...(await this.ended()), afterMs: performance.now() - askedAtMs };
  }

  kill(): Promise<Ending> {
    return this.stop('SIGKILL');
  }

  /** Waits for its own end. */
  async ended(withinMs?: number): Promise<Omit<Ending, 'afterMs'>> {
    await until('flanneld ends', () => !this.#running, { withinMs, evidence: () => this.evidence });
    return this.#ended;
  }

  /** The end of its output, for failures. */
  get evidence(): string {
    const last = this.lines.length === 0 ? 'nothing' : `last:\n${this.lines.slice(-25).join('\n')}`;
    return `flanneld ${this.#running ? 'runs' : 'has ended'} and said ${last}`;
  }

  #until<T>(what: string, condition: () => T | undefined | false, withinMs?: number): Promise<T> {
    const check = (): T | undefined | false => {
      const value = condition();
      if ((value === undefined || value === false) && !this.#running) {
        throw new Error(`${this.#program} has ended before this: ${what}\n${this.evidence}`);
      }
      return value;
    };
    return until(what, check, { withinMs, everyMs: 20, evidence: () => this.evidence });
  }
}

function identityOf(path: string): string | undefined {
  if (!existsSync(path)) return undefined;
  const { ino, mtimeMs } = statSync(path);
  return `${ino}/${mtimeMs}`;
}

function flagValue(flags: readonly string[], name: string): string | undefined {
  const start = `--${name}=`;
  return flags.find((flag) => flag.startsWith(start))?.slice(start.length);
}
