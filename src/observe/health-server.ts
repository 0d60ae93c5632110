import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { FlannelError, errorMessage } from '../errors.js';
import { closeServer, createQuestionServer, listeningDescriptor, type Answer } from './http-server.js';
import type { Metrics } from './metrics.js';

/** What the health server tells; asked anew for every request. */
export interface HealthSource {
  /** `undefined` when ready, else why not. */
  notReadyReason(): string | undefined;
}

/** `/healthz`, `/readyz` and `/metrics` over HTTP, for kubelets, load balancers and Prometheus. */
export class HealthServer {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /**
   * Listens on an address and port; port 0 lets the kernel choose one.
   * @param inherited - a descriptor that another process listened on there
   * @throws FlannelError `HOST` when the address cannot be listened on
   */
  static async listen(
    address: string,
    port: number,
    source: HealthSource,
    metrics: Metrics,
    inherited?: number,
  ): Promise<HealthServer> {
    const server = createQuestionServer((path) => answer(path, source, metrics), text);
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        const reason = error.code === 'EADDRINUSE' ? 'another process has it' : errorMessage(error);
        reject(
          new FlannelError(
            'HOST',
            `the health server cannot listen on ${address} port ${port}: ${reason}; choose with --healthz-ip and --healthz-port`,
            { cause: error },
          ),
        );
      });
      if (inherited === undefined) server.listen(port, address, resolve);
      else server.listen({ fd: inherited }, resolve);
    });
    return new HealthServer(server);
  }

  /** The port it listens on. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** What another process may listen on in its place. */
  get descriptor(): number | undefined {
    return listeningDescriptor(this.#server);
  }

  close(): Promise<void> {
    return closeServer(this.#server);
  }
}

async function answer(path: string, source: HealthSource, metrics: Metrics): Promise<Answer | undefined> {
  switch (path) {
    case '/healthz':
      return text(200, 'flanneld is running');
    case '/readyz': {
      const reason = source.notReadyReason();
      return reason === undefined ? text(200, 'ready') : text(503, `not ready: ${reason}`);
    }
    case '/metrics':
      return { status: 200, contentType: metrics.contentType, body: await metrics.read() };
    default:
      return undefined;
  }
}

function text(status: number, message: string): Answer {
  return { status, contentType: 'text/plain; charset=utf-8', body: `${message}\n` };
}
