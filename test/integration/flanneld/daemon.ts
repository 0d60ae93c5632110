import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import type { Namespace } from '../../../src/lab/namespace.js';
import type { StatusAnswer } from '../../../src/observe/control-protocol.js';
import { ControlClient } from '../../../src/flannelctl/control-client.js';
import { namePrefix } from '../../harness/leftovers.js';

const BINARY = fileURLToPath(new URL('../../../../bin/flanneld', import.meta.url));
const PATIENCE_MS = 30_000;

/** How a daemon ended. */
export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** One run of `flanneld` in a namespace, with every line it says. */
export class Daemon {
  readonly lines: string[] = [];
  readonly stdout: string[] = [];
  readonly ended: Promise<Ending>;
  readonly #child: ChildProcess;
  #waiting: (() => void)[] = [];
  #ending: Ending | undefined;

  constructor(namespace: Namespace, args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
    this.#child = namespace.spawn(process.execPath, [BINARY, ...args], {
      environment: { NOTIFY_SOCKET: '', ...environment },
    });
    this.#collect(this.#child.stderr, this.lines);
    this.#collect(this.#child.stdout, this.stdout);
    this.ended = new Promise((resolve) => {
      this.#child.on('close', (code, signal) => {
        this.#ending = { code, signal };
        this.#wake();
        resolve(this.#ending);
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? assert.fail('flanneld was not started');
  }

  /** Waits for a line, from the `from`th on; returns its index. */
  async line(pattern: RegExp, from = 0): Promise<number> {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const index = this.lines.findIndex((line, i) => i >= from && pattern.test(line));
      if (index >= 0) return index;
      if (this.#ending !== undefined || Date.now() > deadline) {
        assert.fail(`flanneld never said ${String(pattern)}; it said:\n${this.lines.join('\n')}`);
      }
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
        setTimeout(resolve, 500).unref();
      });
    }
  }

  ready(from = 0): Promise<number> {
    return this.line(/ INFO ready /, from);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Stops it and checks what holds for every stop: status 0, and no stack trace in what was said. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.signal(signal);
    assert.deepEqual(await this.ended, { code: 0, signal: null }, this.lines.join('\n'));
    this.assertNoStackTrace();
  }

  /** Ends it however it is, for cleaning up. */
  async kill(): Promise<void> {
    if (this.#ending === undefined) this.signal('SIGKILL');
    await this.ended;
  }

  assertNoStackTrace(): void {
    for (const line of [...this.lines, ...this.stdout]) {
      assert.doesNotMatch(line, /^\s+at |node:internal|\.js:\d+|\[object |undefined|NaN/, this.lines.join('\n'));
    }
  }

  #collect(stream: NodeJS.ReadableStream | null, into: string[]): void {
    if (stream === null) return;
    createInterface({ input: stream }).on('line', (line) => {
      into.push(line);
      this.#wake();
    });
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

/** A place for one node's files, and the flags that keep a daemon to it. */
export class NodeFiles {
  readonly folder = mkdtempSync(join(tmpdir(), `${namePrefix('life')}-`));
  readonly subnetFile = join(this.folder, 'run', 'subnet.env');
  readonly controlSocket = join(this.folder, 'run', 'flanneld.sock');

  flags(endpoints: readonly string[], ...more: string[]): string[] {
    return [
      `--etcd-endpoints=${endpoints.join(',')}`,
      `--subnet-file=${this.subnetFile}`,
      `--control-socket=${this.controlSocket}`,
      ...more,
    ];
  }

  status(): Promise<StatusAnswer> {
    return new ControlClient(this.controlSocket).status();
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
