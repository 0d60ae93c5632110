import { chmodSync, chownSync, linkSync, lstatSync, mkdirSync, rmSync, statSync, unlinkSync } from 'node:fs';
import { request, type Server } from 'node:http';
import { dirname, join } from 'node:path';

import { FlannelError, errorMessage } from '../errors.js';
import {
  CONTROL_PROTOCOL_VERSION,
  type ErrorAnswer,
  type ExplainAnswer,
  type LeaseAnswer,
  type StatusAnswer,
  type VersionAnswer,
} from './control-protocol.js';
import type { PacketQuestion } from '../backend/explain.js';
import type { PeerCheck } from './peer-check.js';
import { readPacketQuestion } from './explain-question.js';
import {
  closeServer,
  createQuestionServer,
  listeningDescriptor,
  type Answer,
  type StreamRoute,
} from './http-server.js';
import { answerProbe, type ProbeService } from './probe-answer.js';
import type { TapHub } from './tap-hub.js';
import { readTapRequest } from './tap-request.js';

/** What the control socket tells; asked anew for every request. */
export interface ControlSource {
  readonly version: string;
  status(): StatusAnswer;
  /** There may be tens of thousands: they are taken a few at a time. */
  leaseAnswers(): Iterable<LeaseAnswer>;
  /** `undefined` while no dataplane runs. */
  explain(question: PacketQuestion): ExplainAnswer | undefined;
}

/** What is asked for with a POST. */
export interface ControlServices {
  /** `POST /v1/tap`: packets as they pass; see `tap-protocol.ts`. */
  readonly taps?: TapHub;
  /** `POST /v1/probe`: packets that are sent on request and followed; see `probe-protocol.ts`. */
  readonly prober?: ProbeService;
}

/** Who may ask. */
export interface ControlAccess {
  /** A group whose members may connect, beside root and the daemon's own user. */
  readonly groupId?: number;
  /** Asked about everybody who connects. */
  readonly check: PeerCheck;
}

/** How long a daemon may take to say who it is, before it counts as alive but stuck. */
const PROBE_TIMEOUT_MS = 1000;

const JSON_TYPE = 'application/json';
const ITEMS_A_PIECE = 1000;

/** The longest path of a unix socket: `sun_path` less its terminator. unix(7). */
const MAX_SOCKET_PATH_BYTES = 107;

/** The daemon's side of the control socket; see `control-protocol.ts` for what is said over it. */
export class ControlServer {
  readonly path: string;
  readonly #server: Server;
  readonly #inode: number;

  private constructor(path: string, server: Server, inode: number) {
    this.path = path;
    this.#server = server;
    this.#inode = inode;
  }

  /**
   * Listens at `path`, which only the daemon's own user and the group of `access` may connect to from its first moment
   * on. The socket of a dead daemon is replaced.
   * @throws FlannelError `CONTROL` when a living daemon has it (naming its pid), or the path cannot be used
   */
  static async listen(
    path: string,
    source: ControlSource,
    services: ControlServices = {},
    access?: ControlAccess,
  ): Promise<ControlServer> {
    const server = createControlServer(source, services, access);
    // Bound under a name of its own and linked into place while listening: whoever finds the path finds it answering,
    // and of two daemons that start at once exactly one gets it.
    const own = join(dirname(path), `.flanneld-${process.pid}.sock`);
    try {
      if (Math.max(Buffer.byteLength(own), Buffer.byteLength(path)) > MAX_SOCKET_PATH_BYTES) {
        throw new FlannelError('CONTROL', `control socket ${path}: the path is too long for a unix socket`);
      }
      mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
      rmSync(own, { force: true });
      await bind(server, own);
      if (access?.groupId !== undefined) {
        chownSync(own, -1, access.groupId);
        chmodSync(own, 0o660);
      }
      const inode = statSync(own).ino;
      await claim(own, path);
      unlinkSync(own);
      return new ControlServer(path, server, inode);
    } catch (error) {
      await closeServer(server);
      removeQuietly(own);
      if (error instanceof FlannelError) throw error;
      const { code } = error as NodeJS.ErrnoException;
      const reason = code === 'EACCES' || code === 'EPERM' ? 'not allowed: run as root' : errorMessage(error);
      throw new FlannelError('CONTROL', `cannot listen on control socket ${path}: ${reason}`, { cause: error });
    }
  }

  /** Answers on a socket that another process has listened on at `path`, and leaves to this one. */
  static async adopt(
    fd: number,
    path: string,
    source: ControlSource,
    services: ControlServices = {},
    access?: ControlAccess,
  ): Promise<ControlServer> {
    const server = createControlServer(source, services, access);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ fd }, resolve);
    });
    return new ControlServer(path, server, inodeOf(path) ?? 0);
  }

  /** What another process may listen on in its place. */
  get descriptor(): number | undefined {
    return listeningDescriptor(this.#server);
  }

  /** Stops answering, and leaves the socket to another process. */
  async cede(): Promise<void> {
    await closeServer(this.#server);
  }

  /** Stops answering and removes the socket. */
  async close(): Promise<void> {
    this.removeSocket();
    await closeServer(this.#server);
  }

  /** At once, unless another daemon has put its own there since. */
  removeSocket(): void {
    try {
      if (statSync(this.path).ino === this.#inode) unlinkSync(this.path);
    } catch {
      // Already gone.
    }
  }
}

function createControlServer(source: ControlSource, services: ControlServices, access?: ControlAccess): Server {
  const streams: StreamRoute = (path) => streamOf(path, services);
  const route = (path: string, query: URLSearchParams): Answer | undefined => answer(path, query, source);
  return createQuestionServer(route, writeError, { streams, peerCheck: access?.check });
}

/** What is known of whoever may be listening at a path. */
export type SocketOwner =
  | { readonly state: 'none' } // no such file
  | { readonly state: 'stale' } // a file nobody listens at
  | { readonly state: 'alive'; readonly pid?: number }; // answers; without a pid where it did not say who it is

/** Finds out whether a daemon lives behind a control socket. Never rejects. */
export function probeControlSocket(path: string): Promise<SocketOwner> {
  return new Promise((resolve) => {
    const asking = request(
      { socketPath: path, path: `/v${CONTROL_PROTOCOL_VERSION}/version`, timeout: PROBE_TIMEOUT_MS },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
          if (text.length > 65_536) response.destroy();
        });
        response.on('end', () => resolve({ state: 'alive', pid: pidIn(text) }));
        response.on('error', () => resolve({ state: 'alive' }));
      },
    );
    const deadline = setTimeout(() => asking.destroy(new Error('timeout')), PROBE_TIMEOUT_MS);
    asking.on('close', () => clearTimeout(deadline));
    asking.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') resolve({ state: 'none' });
      else if (error.code === 'ECONNREFUSED' || error.code === 'ENOTSOCK') resolve({ state: 'stale' });
      else resolve({ state: 'alive' });
    });
    asking.end();
  });
}

/** The error for a socket that a living daemon has. */
export function livingDaemonError(path: string, owner: { readonly pid?: number }, remedy: string): FlannelError {
  const who =
    owner.pid === undefined ? 'another process (which does not say who it is)' : `flanneld with pid ${owner.pid}`;
  return new FlannelError('CONTROL', `control socket ${path} belongs to ${who}: ${remedy}`);
}

function pidIn(text: string): number | undefined {
  try {
    const { pid } = JSON.parse(text) as Partial<VersionAnswer>;
    return typeof pid === 'number' ? pid : undefined;
  } catch {
    return undefined;
  }
}

function bind(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    // listen() binds before it returns, so the mask reaches exactly this socket.
    const mask = process.umask(0o177);
    try {
      server.listen(path, () => {
        server.removeListener('error', reject);
        try {
          // A folder's default access list would override the mask.
          chmodSync(path, 0o600);
          resolve();
        } catch (error) {
          reject(error instanceof Error ? error : new Error(errorMessage(error)));
        }
      });
    } finally {
      process.umask(mask);
    }
  });
}

async function claim(own: string, path: string): Promise<void> {
  for (;;) {
    try {
      linkSync(own, path);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const before = inodeOf(path);
    const owner = await probeControlSocket(path);
    if (owner.state === 'alive') {
      throw livingDaemonError(path, owner, 'stop it first, or give this one a --control-socket of its own');
    }
    // What has changed meanwhile is another daemon's that starts: it is asked in turn.
    if (before === undefined || before !== inodeOf(path)) continue;
    // A link that leads nowhere, or to a dead daemon's socket, gives way as well.
    if (statSync(path, { throwIfNoEntry: false })?.isSocket() === false) {
      throw new FlannelError(
        'CONTROL',
        `control socket ${path} is a file of another kind: remove it or choose another`,
      );
    }
    unlinkSync(path);
  }
}

function removeQuietly(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // Its folder is no folder: then there is nothing to remove.
  }
}

/** Of the entry itself, whatever a link leads to. */
function inodeOf(path: string): number | undefined {
  return lstatSync(path, { throwIfNoEntry: false })?.ino;
}

function answer(path: string, query: URLSearchParams, source: ControlSource): Answer | undefined {
  const base = `/v${CONTROL_PROTOCOL_VERSION}/`;
  switch (path) {
    case `${base}version`: {
      const version: VersionAnswer = { protocol: CONTROL_PROTOCOL_VERSION, version: source.version, pid: process.pid };
      return json(200, version);
    }
    case `${base}status`:
      return json(200, source.status());
    case `${base}leases`:
      return { status: 200, contentType: JSON_TYPE, body: jsonArray(source.leaseAnswers()) };
    case `${base}explain`:
      return explain(query, source);
    default:
      return undefined;
  }
}

function explain(query: URLSearchParams, source: ControlSource): Answer {
  const question = readPacketQuestion(query);
  if (typeof question === 'string') return writeError(400, question);
  const explanation = source.explain(question);
  return explanation === undefined ? writeError(503, 'no dataplane runs yet') : json(200, explanation);
}

function streamOf(path: string, { taps, prober }: ControlServices): ReturnType<StreamRoute> {
  switch (path) {
    case `/v${CONTROL_PROTOCOL_VERSION}/tap`:
      return taps && ((body, response) => void response.on('close', taps.subscribe(readTapRequest(body), response)));
    case `/v${CONTROL_PROTOCOL_VERSION}/probe`:
      return prober && ((body, response) => answerProbe(body, response, prober));
    default:
      return undefined;
  }
}

function writeError(status: number, error: string): Answer {
  const body: ErrorAnswer = { error };
  return json(status, body);
}

function json(status: number, body: unknown): Answer {
  return { status, contentType: JSON_TYPE, body: `${JSON.stringify(body)}\n` };
}

/** An array in pieces of a few milliseconds' work each. */
function* jsonArray(items: Iterable<unknown>): Generator<string> {
  let piece = '[';
  let count = 0;
  for (const item of items) {
    if (count > 0) piece += ',';
    piece += JSON.stringify(item);
    if (++count % ITEMS_A_PIECE !== 0) continue;
    yield piece;
    piece = '';
  }
  yield `${piece}]\n`;
}
