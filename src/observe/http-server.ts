import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { setImmediate as otherWork } from 'node:timers/promises';
import { UsageError, errorMessage } from '../errors.js';
import { ConnectionLimit } from './connection-limit.js';
import type { PeerCheck } from './peer-check.js';

/** What a path answers. */
export interface Answer {
  readonly status: number;
  readonly contentType: string;
  /** Whole, or in pieces that are made as the client reads them; other work goes on between two. */
  readonly body: string | Iterable<string>;
}

/** Answers a path and its query, or `undefined` where there is nothing. */
export type Route = (path: string, query: URLSearchParams) => Answer | undefined | Promise<Answer | undefined>;

/**
 * A path that answers a POST with a stream that lasts until the client hangs up, or `undefined` for other paths. It throws
 * an error for a request that it refuses, before it writes anything.
 */
export type StreamRoute = (path: string) => ((body: string, response: ServerResponse) => void) | undefined;

/** How errors are written: JSON for machines on the control socket, text elsewhere. */
export type ErrorWriter = (status: number, message: string) => Answer;

const MAX_BODY_BYTES = 0;
/** Two packet filters of the largest size. */
const MAX_STREAM_BODY_BYTES = 512 * 1024;

/** From the first byte of a connection or request to the last of its headers and body. */
const REQUEST_TIMEOUT_MS = 5000;
/** How often connections are held against that; Node's own habit is 30 seconds. */
const TIMEOUT_CHECK_MS = 1000;
/** A client that does not read its answer, */
const IDLE_TIMEOUT_MS = 10_000;
/** and one that reads it a little at a time. */
const ANSWER_TIMEOUT_MS = 30_000;
const MAX_CONNECTIONS = 64;

export interface QuestionServerOptions {
  readonly streams?: StreamRoute;
  /** Whom to answer. Everybody by default. */
  readonly peerCheck?: PeerCheck;
  /** From the whole request to the last byte of its answer that the kernel takes; half a minute by default. */
  readonly answerTimeoutMs?: number;
}

/**
 * A small HTTP server for questions that change nothing: GET and HEAD only, no bodies, everything bounded in size and
 * time, so that no client can hold memory or connections for long. Only a stream is asked for with a POST, and lasts.
 */
export function createQuestionServer(
  route: Route,
  writeError: ErrorWriter,
  { streams = noStreams, peerCheck, answerTimeoutMs = ANSWER_TIMEOUT_MS }: QuestionServerOptions = {},
): Server {
  const server = createServer({
    maxHeaderSize: 8192,
    requestTimeout: REQUEST_TIMEOUT_MS,
    headersTimeout: REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: TIMEOUT_CHECK_MS,
    keepAliveTimeout: 2000,
  });
  server.timeout = IDLE_TIMEOUT_MS;
  server.maxRequestsPerSocket = 1000;
  const limit = new ConnectionLimit(MAX_CONNECTIONS);
  const refusals = new WeakMap<Socket, string>();
  server.on('connection', (socket) => {
    const refusal = peerCheck?.(socket);
    if (refusal !== undefined) refusals.set(socket, refusal);
    limit.admit(socket);
  });
  const answering = new WeakSet<Socket>();
  server.on('request', (request, response) => {
    const { socket } = request;
    // Answers to a client that asks on before it has one would pile up here, a thousand to a connection.
    if (answering.has(socket)) {
      socket.destroy();
      return;
    }
    answering.add(socket);
    response.once('close', () => answering.delete(socket));
    const refusal = refusals.get(socket);
    if (refusal !== undefined) {
      response.setHeader('connection', 'close');
      send(response, writeError(403, refusal), request.method !== 'HEAD');
      return;
    }
    const stream = request.method === 'POST' ? streams((request.url ?? '/').split('?', 1)[0]) : undefined;
    if (stream === undefined) {
      const late = setTimeout(() => socket.destroy(), answerTimeoutMs);
      response.once('close', () => clearTimeout(late));
      void answer(request, response, route, writeError);
    } else {
      socket.setTimeout(0);
      limit.keep(socket);
      void openStream(request, response, stream, writeError);
    }
  });
  server.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
    else socket.destroy();
  });
  return server;
}

function noStreams(): undefined {
  return undefined;
}

async function openStream(
  request: IncomingMessage,
  response: ServerResponse,
  stream: (body: string, response: ServerResponse) => void,
  writeError: ErrorWriter,
): Promise<void> {
  let refusal: Answer;
  try {
    const body = await readBody(request);
    if (body !== undefined) {
      response.setHeader('content-type', 'application/octet-stream');
      response.setHeader('cache-control', 'no-store');
      stream(body, response);
      return;
    }
    refusal = writeError(413, `the request is longer than ${MAX_STREAM_BODY_BYTES} bytes`);
  } catch (error) {
    refusal = writeError(error instanceof UsageError ? 400 : 503, errorMessage(error));
  }
  response.setHeader('connection', 'close');
  send(response, refusal, true);
}

/** `undefined` when it is too long. */
async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    length += piece.length;
    if (length > MAX_STREAM_BODY_BYTES) return undefined;
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  route: Route,
  writeError: ErrorWriter,
): Promise<void> {
  let found: Answer;
  const [path, query] = (request.url ?? '/').split('?', 2);
  const length = Number(request.headers['content-length'] ?? 0);
  if (length > MAX_BODY_BYTES || request.headers['transfer-encoding'] !== undefined) {
    found = writeError(413, 'no body is expected');
    response.setHeader('connection', 'close');
  } else {
    try {
      found = (await route(path, new URLSearchParams(query))) ?? writeError(404, `nothing at ${path}`);
    } catch {
      found = writeError(500, 'the answer could not be made');
    }
    if (found.status < 400 && request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      found = writeError(405, `${request.method} is not known here, only GET is`);
    }
  }
  send(response, found, request.method !== 'HEAD');
}

function send(response: ServerResponse, { status, contentType, body }: Answer, withBody: boolean): void {
  const whole = typeof body === 'string';
  response.writeHead(status, {
    'content-type': contentType,
    ...(whole ? { 'content-length': Buffer.byteLength(body) } : {}),
    'cache-control': 'no-store',
  });
  if (whole || !withBody) response.end(whole && withBody ? body : undefined);
  // It fails when the client goes away, which is the client's own affair.
  else pipeline(paced(body), response).catch(() => undefined);
}

async function* paced(pieces: Iterable<string>): AsyncGenerator<string> {
  for (const piece of pieces) {
    yield piece;
    await otherWork();
  }
}

/** The descriptor that a server listens on, for a process that is to listen in its place; `undefined` when it does not. */
export function listeningDescriptor(server: Server): number | undefined {
  // Node has no name for it that is documented, but for all of its servers this one.
  const fd = (server as { readonly _handle?: { readonly fd?: number } })._handle?.fd;
  return fd === undefined || fd < 0 ? undefined : fd;
}

/** Stops listening and ends every connection at once. */
export function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
