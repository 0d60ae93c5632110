import { request, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { FlannelError, errorMessage } from '../errors.js';
import {
  CONTROL_PROTOCOL_VERSION,
  type ErrorAnswer,
  type ExplainAnswer,
  type LeaseAnswer,
  type StatusAnswer,
  type VersionAnswer,
} from '../observe/control-protocol.js';
import type {
  MeshProbeAnswer,
  MeshProbeRequest,
  PacketProbeAnswer,
  PacketProbeRequest,
  ProbeAnswer,
  ProbeRequest,
} from '../observe/probe-protocol.js';
import { TapFrameReader, type TapFrame, type TapRequest } from '../observe/tap-protocol.js';

/** An answer larger than this is no answer of flanneld's: 65,536 leases are some 12 MB. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

export interface ControlClientOptions {
  /** How long a whole answer may take, in milliseconds; 5,000 by default. */
  readonly timeoutMs?: number;
}

/**
 * Asks a running `flanneld` over its control socket. Every method rejects with a `FlannelError` (`CONTROL`) whose one
 * line names the socket that was tried.
 */
export class ControlClient {
  readonly socketPath: string;
  readonly #timeoutMs: number;

  constructor(socketPath: string, options: ControlClientOptions = {}) {
    this.socketPath = socketPath;
    this.#timeoutMs = options.timeoutMs ?? 5000;
  }

  /** Which daemon this is. The only question a daemon of any protocol version is expected to understand. */
  async version(): Promise<VersionAnswer> {
    const answer = await this.#get('version');
    if (!isObject(answer) || typeof answer.protocol !== 'number') throw this.#strange('version');
    if (answer.protocol !== CONTROL_PROTOCOL_VERSION) {
      throw this.#otherProtocol(`it speaks version ${answer.protocol}`);
    }
    return answer as unknown as VersionAnswer;
  }

  /** The agent's state, lease, counters and store health. */
  async status(): Promise<StatusAnswer> {
    const answer = await this.#get('status');
    if (!isObject(answer) || typeof answer.state !== 'string') throw this.#strange('status');
    return answer as unknown as StatusAnswer;
  }

  /** The leases as the daemon's table holds them. */
  async leases(): Promise<LeaseAnswer[]> {
    const answer = await this.#get('leases');
    if (!Array.isArray(answer)) throw this.#strange('leases');
    return answer as LeaseAnswer[];
  }

  /** What the daemon's dataplane would do with a packet; the names of `query` are those of the control protocol. */
  async explain(query: Readonly<Record<string, string>>): Promise<ExplainAnswer> {
    const answer = await this.#get('explain', query);
    if (!isObject(answer) || !isObject(answer.here)) throw this.#strange('explanation');
    return answer as unknown as ExplainAnswer;
  }

  /**
   * Packets as the daemon's dataplane handles them, until `signal` aborts or the caller has seen enough.
   * @throws FlannelError `CONTROL`, also when the daemon ends
   */
  async *tap(wanted: TapRequest, signal: AbortSignal): AsyncGenerator<TapFrame> {
    try {
      const response = await this.#post('tap', JSON.stringify(wanted), signal);
      const frames = new TapFrameReader();
      for await (const piece of response as AsyncIterable<Buffer>) yield* frames.read(piece);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof RangeError || error instanceof SyntaxError) throw this.#strange('packets');
      throw this.#explain(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /**
   * Has packets sent and followed, which may take as long as they may, and a little more.
   * @throws FlannelError `CONTROL`, also for what the daemon says against it
   */
  async probe(wanted: PacketProbeRequest): Promise<PacketProbeAnswer>;
  async probe(wanted: MeshProbeRequest): Promise<MeshProbeAnswer>;
  async probe(wanted: ProbeRequest): Promise<ProbeAnswer> {
    const { signal } = new AbortController();
    let body: string;
    try {
      body = await text(await this.#post('probe', JSON.stringify(wanted), signal));
    } catch (error) {
      throw this.#explain(error instanceof Error ? error : new Error(String(error)));
    }
    const answer = this.#read('probe', 200, body);
    if (isObject(answer) && typeof answer.error === 'string') throw new FlannelError('CONTROL', answer.error);
    if (!isObject(answer) || typeof answer.reached !== 'boolean') throw this.#strange('probe');
    return answer as unknown as ProbeAnswer;
  }

  /** Asks for a stream; resolves when it begins. */
  #post(what: string, body: string, signal: AbortSignal): Promise<IncomingMessage> {
    const path = `/v${CONTROL_PROTOCOL_VERSION}/${what}`;
    return new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
      const outgoing = request({ socketPath: this.socketPath, path, method: 'POST', headers, signal }, (response) => {
        clearTimeout(timer);
        if (response.statusCode === 200) {
          resolve(response);
          return;
        }
        text(response)
          .then((refusal) => this.#read(what, response.statusCode ?? 0, refusal))
          .then(() => reject(this.#strange(what)), reject);
      });
      const timer = setTimeout(() => outgoing.destroy(this.#silent()), this.#timeoutMs);
      outgoing.on('error', (error) => {
        clearTimeout(timer);
        reject(error);
      });
      outgoing.end(body);
    });
  }

  #get(what: string, query: Readonly<Record<string, string>> = {}): Promise<unknown> {
    const path = `/v${CONTROL_PROTOCOL_VERSION}/${what}?${new URLSearchParams(query).toString()}`.replace(/\?$/, '');
    return new Promise((resolve, reject) => {
      const outgoing = request(
        { socketPath: this.socketPath, path, method: 'GET', headers: { accept: 'application/json' } },
        (response) => {
          const chunks: Buffer[] = [];
          let length = 0;
          response.on('data', (chunk: Buffer) => {
            length += chunk.length;
            if (length > MAX_ANSWER_BYTES) outgoing.destroy(this.#strange(what));
            else chunks.push(chunk);
          });
          response.on('error', (error) => reject(this.#explain(error)));
          response.on('end', () => {
            clearTimeout(timer);
            try {
              resolve(this.#read(what, response.statusCode ?? 0, Buffer.concat(chunks).toString('utf8')));
            } catch (error) {
              reject(error instanceof Error ? error : new Error(String(error)));
            }
          });
        },
      );
      const timer = setTimeout(() => outgoing.destroy(this.#silent()), this.#timeoutMs);
      outgoing.on('error', (error) => {
        clearTimeout(timer);
        reject(this.#explain(error));
      });
      outgoing.end();
    });
  }

  #read(what: string, status: number, body: string): unknown {
    let answer: unknown;
    try {
      answer = JSON.parse(body);
    } catch {
      throw this.#strange(what);
    }
    if (status === 404) throw this.#otherProtocol(`it has no /v${CONTROL_PROTOCOL_VERSION}/${what}`);
    if (status >= 400) {
      const reason = isObject(answer) ? (answer as unknown as ErrorAnswer).error : undefined;
      throw new FlannelError(
        'CONTROL',
        `flanneld at ${this.socketPath} answered ${status}: ${reason ?? 'no reason given'}`,
      );
    }
    return answer;
  }

  #explain(error: Error): FlannelError {
    if (error instanceof FlannelError) return error;
    const { code } = error as NodeJS.ErrnoException;
    const elsewhere = 'name its --control-socket with --socket PATH';
    const path = this.socketPath;
    switch (code ?? '') {
      case 'ENOENT':
      case 'ENOTDIR':
        return this.#failed(`no flanneld at ${path} (no such socket): start flanneld, or ${elsewhere}`, error);
      case 'ECONNREFUSED':
        return this.#failed(`no flanneld at ${path} (nothing listens there): start flanneld, or ${elsewhere}`, error);
      case 'EACCES':
      case 'EPERM':
        return this.#failed(`may not connect to flanneld at ${path}: run as the user that runs flanneld (root)`, error);
      case 'ECONNRESET':
      case 'EPIPE':
        return this.#failed(`flanneld at ${path} hung up: it is stopping, or something else listens there`, error);
      default:
        return this.#failed(`cannot ask flanneld at ${path}: ${errorMessage(error)}`, error);
    }
  }

  #failed(message: string, cause: Error): FlannelError {
    return new FlannelError('CONTROL', message, { cause });
  }

  #silent(): FlannelError {
    return new FlannelError(
      'CONTROL',
      `flanneld at ${this.socketPath} did not answer within ${this.#timeoutMs / 1000} s: ` +
        'it may be stopped or overloaded; look at its log',
    );
  }

  #strange(what: string): FlannelError {
    return new FlannelError(
      'CONTROL',
      `what listens at ${this.socketPath} gave no ${what} that can be read: it is not a flanneld, or another release`,
    );
  }

  #otherProtocol(how: string): FlannelError {
    return new FlannelError(
      'CONTROL',
      `flanneld at ${this.socketPath} is of another release (${how}, this flannelctl speaks version ` +
        `${CONTROL_PROTOCOL_VERSION}): use the flannelctl that came with it`,
    );
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
