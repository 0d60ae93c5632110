import { constants, fstatSync, openSync, write } from 'node:fs';

import type { LogFields, Logger } from '../log.js';

/**
 * Lines to standard error, for people or machines. Writing happens in the background and is bounded: a reader that
 * stalls costs lines, which are counted, and never holds up the control plane; one that is gone (EPIPE) costs nothing.
 */

export interface LineLoggerOptions {
  readonly format: 'text' | 'json';
  /** Whether debug lines are wanted too. */
  readonly debug: boolean;
  /** Where lines go; standard error by default. */
  readonly descriptor?: number;
  /** Lines waiting beyond this are dropped; 1 MiB by default. */
  readonly maxQueuedBytes?: number;
}

type Level = 'debug' | 'info' | 'warn' | 'error';

const RETRY_MS = 20;

/** The lines of one process; those that nobody read are counted, and told when there is room again. */
export class LineLogger implements Logger {
  readonly #format: 'text' | 'json';
  readonly #debug: boolean;
  readonly #descriptor: number;
  readonly #maxQueuedBytes: number;
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  #writing = false;
  #dropped = 0;
  #idle: (() => void)[] = [];

  constructor(options: LineLoggerOptions) {
    this.#format = options.format;
    this.#debug = options.debug;
    this.#descriptor = unblocked(options.descriptor ?? 2);
    this.#maxQueuedBytes = options.maxQueuedBytes ?? 1024 * 1024;
  }

  debug(message: string, fields?: LogFields): void {
    if (this.#debug) this.#log('debug', message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.#log('info', message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.#log('warn', message, fields);
  }

  error(message: string, fields?: LogFields): void {
    this.#log('error', message, fields);
  }

  /** Resolves when everything logged so far is written or given up, and after `timeoutMs` in any case. */
  flush(timeoutMs: number): Promise<void> {
    if (!this.#writing) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#idle.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #log(level: Level, message: string, fields: LogFields | undefined): void {
    if (this.#queuedBytes > this.#maxQueuedBytes) {
      this.#dropped++;
      return;
    }
    this.#enqueue(formatLine(this.#format, new Date(), level, message, fields));
  }

  #enqueue(line: string): void {
    const bytes = Buffer.from(line);
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    if (!this.#writing) this.#write(this.#take());
  }

  #take(): Buffer {
    const bytes = this.#queue.length === 1 ? this.#queue[0] : Buffer.concat(this.#queue);
    this.#queue = [];
    return bytes;
  }

  #write(bytes: Buffer): void {
    this.#writing = true;
    write(this.#descriptor, bytes, (error, written) => {
      if (error?.code === 'EAGAIN' || error?.code === 'EINTR') {
        setTimeout(() => this.#write(bytes), RETRY_MS).unref();
        return;
      }
      // Nobody is left to read (EPIPE), or the disk is full: these bytes are lost, later ones are tried again.
      const done = error === null ? written : bytes.length;
      this.#queuedBytes -= done;
      if (done < bytes.length) this.#write(bytes.subarray(done));
      else this.#next();
    });
  }

  #next(): void {
    if (this.#dropped > 0 && this.#queue.length === 0) {
      const lines = this.#dropped;
      this.#dropped = 0;
      const text = formatLine(this.#format, new Date(), 'warn', 'log lines were dropped: nobody read them', { lines });
      this.#queue.push(Buffer.from(text));
      this.#queuedBytes += this.#queue[0].length;
    }
    if (this.#queue.length > 0) {
      this.#write(this.#take());
      return;
    }
    this.#writing = false;
    const idle = this.#idle;
    this.#idle = [];
    for (const resolve of idle) resolve();
  }
}

/** One log line, newline included. Nothing that is logged can begin another line. */
export function formatLine(
  format: 'text' | 'json',
  time: Date,
  level: Level,
  message: string,
  fields: LogFields = {},
): string {
  if (format === 'json') {
    const fixed = { time: time.toISOString(), level, message };
    return `${escapeControls(JSON.stringify({ ...fixed, ...fields, ...fixed }))}\n`;
  }
  let line = `${time.toISOString()} ${level.toUpperCase()} ${escapeControls(message)}`;
  for (const [key, value] of Object.entries(fields)) {
    if (value !== undefined) line += ` ${key}=${fieldText(String(value))}`;
  }
  return `${line}\n`;
}

function fieldText(value: string): string {
  return /^[^\s"=]+$/.test(value) && escapeControls(value) === value ? value : escapeControls(JSON.stringify(value));
}

function escapeControls(text: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what this is about
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, (character) => {
    if (character === '\n') return '\\n';
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/**
 * A descriptor of its own that does not block, for a pipe or a terminal: a write to a full pipe would otherwise hold a
 * thread, and with it the exit of the process. Setting the flag on the inherited one would change it for everybody.
 */
function unblocked(descriptor: number): number {
  try {
    const file = fstatSync(descriptor);
    if (!file.isFIFO() && !file.isCharacterDevice()) return descriptor;
    return openSync(`/proc/self/fd/${descriptor}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return descriptor; // a socket (journald), or closed
  }
}
