/** Asks etcd how it does: each server over HTTP, and all together for a key as an agent would. */
import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { errorMessage } from '../../errors.js';
import { LeaseAdmin } from '../../subnet/etcd/lease-admin.js';
import type { EtcdOptions } from '../../subnet/etcd/options.js';
import { findOut, type Fact } from './check.js';

export interface StoreFacts {
  readonly prefix: string;
  /** How long a read took that a majority of the servers agreed on. */
  readonly readMs: Fact<number>;
  readonly servers: readonly ServerFacts[];
}

export interface ServerFacts {
  readonly endpoint: string;
  /** What it says of itself under /health. */
  readonly health: Fact<{ readonly healthy: boolean; readonly reason?: string }>;
  /**
   * How far this host's clock is ahead of the server's, in seconds: told from the `Date` of its HTTP answers, which
   * counts whole seconds (RFC 9110, 6.6.1), so that a difference within `uncertaintySeconds` means nothing.
   */
  readonly clock: Fact<{ readonly aheadSeconds: number; readonly uncertaintySeconds: number }>;
}

const TIMEOUT_MS = 5000;

/** Asks the store. @throws UsageError for settings that cannot work */
export async function probeStore(options: EtcdOptions): Promise<StoreFacts> {
  const admin = new LeaseAdmin(options);
  try {
    const read = findOut(async () => {
      const signal = AbortSignal.timeout(2 * TIMEOUT_MS);
      await admin.networkConfigText(signal);
      // The first read has the connection made as well.
      const startedAtMs = performance.now();
      await admin.networkConfigText(signal);
      return performance.now() - startedAtMs;
    });
    const servers = Promise.all(options.endpoints.map((endpoint) => probeServer(endpoint, options)));
    return { prefix: options.prefix, readMs: await read, servers: await servers };
  } finally {
    admin.close();
  }
}

async function probeServer(endpoint: string, options: EtcdOptions): Promise<ServerFacts> {
  const [health, clock] = await Promise.all([
    findOut(async () => {
      const { body } = await get(`${baseUrl(endpoint, options)}/health`, options);
      return healthIn(body);
    }),
    findOut(async () => {
      const startedAtMs = Date.now();
      const { date } = await get(`${baseUrl(endpoint, options)}/version`, options);
      const endedAtMs = Date.now();
      const dateMs = Date.parse(date ?? '');
      if (Number.isNaN(dateMs)) throw new Error('its answer has no date');
      // The server's clock was somewhere in that second when it answered, somewhere between asking and hearing.
      const aheadSeconds = (startedAtMs + endedAtMs) / 2000 - (dateMs / 1000 + 0.5);
      return { aheadSeconds, uncertaintySeconds: 0.5 + (endedAtMs - startedAtMs) / 2000 };
    }),
  ]);
  return { endpoint, health, clock };
}

/** etcd's answer is `{"health":"true"}`, or since 3.5 `{"health":"false","reason":"ALARM NOSPACE"}`. */
function healthIn(body: string): { readonly healthy: boolean; readonly reason?: string } {
  let answer: unknown;
  try {
    answer = JSON.parse(body);
  } catch {
    answer = undefined;
  }
  if (typeof answer !== 'object' || answer === null || !('health' in answer)) {
    throw new Error('what answers under /health is no etcd');
  }
  const reason = 'reason' in answer && typeof answer.reason === 'string' ? answer.reason : '';
  return { healthy: String(answer.health) === 'true', reason: reason || undefined };
}

function baseUrl(endpoint: string, { certFile, caFile }: EtcdOptions): string {
  if (/^unix:/.test(endpoint)) throw new Error('a unix socket is not asked over HTTP');
  const scheme = certFile !== undefined || caFile !== undefined ? 'https' : 'http';
  return (/^https?:\/\//.test(endpoint) ? endpoint : `${scheme}://${endpoint}`).replace(/\/$/, '');
}

function get(url: string, options: EtcdOptions): Promise<{ readonly date?: string; readonly body: string }> {
  return new Promise((resolve, reject) => {
    const tls = url.startsWith('https:')
      ? { ca: readOptional(options.caFile), cert: readOptional(options.certFile), key: readOptional(options.keyFile) }
      : {};
    const asking = (url.startsWith('https:') ? httpsRequest : httpRequest)(
      url,
      { ...tls, timeout: TIMEOUT_MS },
      (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => (body = (body + chunk).slice(0, 65_536)));
        response.on('error', reject);
        response.on('end', () => resolve({ date: response.headers.date, body }));
      },
    );
    asking.on('timeout', () => asking.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    asking.on('error', (error) => reject(new Error(errorMessage(error))));
    asking.end();
  });
}

function readOptional(path: string | undefined): Buffer | undefined {
  return path === undefined ? undefined : readFileSync(path);
}
