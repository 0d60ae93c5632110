import type { ServerResponse } from 'node:http';
import { errorMessage } from '../errors.js';
import type { ErrorAnswer } from './control-protocol.js';
import type { ProbeAnswer, ProbeRequest } from './probe-protocol.js';
import { readProbeRequest } from './probe-request.js';

/** Sends packets on request, and follows them. */
export interface ProbeService {
  /** @throws FlannelError when the request cannot be carried out */
  probe(request: ProbeRequest, signal: AbortSignal): Promise<ProbeAnswer>;
}

/**
 * Answers `POST /v1/probe`: the status at once, for a probe takes its time, and the line when it is over.
 * @throws UsageError for a request that makes no sense
 */
export function answerProbe(body: string, response: ServerResponse, prober: ProbeService): void {
  const request = readProbeRequest(body);
  const gone = new AbortController();
  response.on('close', () => gone.abort());
  response.writeHead(200, { 'content-type': 'application/json' });
  response.flushHeaders();
  prober.probe(request, gone.signal).then(
    (answer) => response.end(`${JSON.stringify(answer)}\n`),
    (error: unknown) => {
      const told: ErrorAnswer = { error: errorMessage(error) };
      response.end(`${JSON.stringify(told)}\n`);
    },
  );
}
