import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';

/** What a path answers. */
export interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

/** Answers a path and its query, or `undefined` where there is nothing. */
export type Route = (path: string, query: URLSearchParams) => Answer | undefined | Promise<Answer | undefined>;

/** How errors are written: JSON for machines on the control socket, text elsewhere. */
export type ErrorWriter = (status: number, message: string) => Answer;

const MAX_BODY_BYTES = 0;

/**
 * A small HTTP server for questions that change nothing: GET and HEAD only, no bodies, everything bounded in size and
 * time, so that no client can hold memory or connections for long.
 */
export function createQuestionServer(route: Route, writeError: ErrorWriter): Server {
  const server = createServer({
    maxHeaderSize: 8192,
    requestTimeout: 5000,
    headersTimeout: 5000,
    keepAliveTimeout: 2000,
  });
  server.maxConnections = 64;
  server.maxRequestsPerSocket = 1000;
  server.on('request', (request, response) => {
    void answer(request, response, route, writeError);
  });
  server.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
    else socket.destroy();
  });
  return server;
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
  response.writeHead(found.status, {
    'content-type': found.contentType,
    'content-length': Buffer.byteLength(found.body),
    'cache-control': 'no-store',
  });
  response.end(request.method === 'HEAD' ? undefined : found.body);
}

/** Stops listening and ends every connection at once. */
export function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
