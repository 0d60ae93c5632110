/** How etcd is reached: the flags of flanneld, checked once and turned into targets and credentials. */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { checkServerIdentity, rootCertificates } from 'node:tls';
import { credentials } from '@grpc/grpc-js';
import type { ChannelCredentials, VerifyOptions } from '@grpc/grpc-js';
import { errorMessage, UsageError } from '../../errors.js';

/** flannel's `--etcd-…` flags. */
export interface EtcdOptions {
  /** `http://HOST:PORT`, `https://HOST:PORT`, `HOST:PORT` (https when a certificate or CA is given) or `unix:///PATH`. */
  readonly endpoints: readonly string[];
  /** Folder of keys that holds `config` and `subnets/`. */
  readonly prefix: string;
  readonly keyFile?: string;
  readonly certFile?: string;
  readonly caFile?: string;
  readonly username?: string;
  readonly password?: string;
  /** A file that holds it instead. */
  readonly passwordFile?: string;
}

/** Tuning that tests need and operators do not. */
export interface EtcdTimings {
  /** How long one call to one endpoint may take. */
  readonly requestTimeoutMs: number;
  /** How long a connection may take to stand while another endpoint is left to try. */
  readonly connectTimeoutMs: number;
  /** Pings on a connection in use find a server that is gone without a word. */
  readonly keepaliveMs: number;
  readonly keepaliveTimeoutMs: number;
}

export const DEFAULT_TIMINGS: EtcdTimings = {
  requestTimeoutMs: 5_000,
  connectTimeoutMs: 1_500,
  // etcd closes connections that ping more often than every 5 s.
  keepaliveMs: 10_000,
  keepaliveTimeoutMs: 5_000,
};

/** One server, ready to be dialled. */
export interface EtcdTarget {
  /** As the operator wrote it, for messages. */
  readonly endpoint: string;
  /** As gRPC wants it. */
  readonly address: string;
  readonly credentials: ChannelCredentials;
  /** The name of TLS's server name indication, which may be no IP address (RFC 6066, section 3). */
  readonly serverName?: string;
}

/**
 * Checks endpoints and reads the files they need.
 * @throws UsageError naming the flag, when an endpoint makes no sense or a file cannot be read or used
 */
export function etcdTargets(options: EtcdOptions): EtcdTarget[] {
  const { certFile, keyFile, caFile } = options;
  if ((certFile === undefined) !== (keyFile === undefined)) {
    throw new UsageError('--etcd-certfile and --etcd-keyfile belong together: give both or neither');
  }
  if (options.password !== undefined && options.username === undefined) {
    throw new UsageError('--etcd-password needs --etcd-username');
  }
  if (options.endpoints.length === 0) throw new UsageError('--etcd-endpoints: expected at least one URL');
  const tlsFiles = certFile !== undefined || caFile !== undefined;
  // Files that cannot be used are told of even where no endpoint speaks TLS.
  const files = readTlsFiles(options);
  return options.endpoints.map((endpoint) => {
    const { address, tls } = parseEndpoint(endpoint, tlsFiles);
    if (!tls) return { endpoint, address, credentials: credentials.createInsecure() };
    const host = address.replace(/:[0-9]+$/, '').replace(/^\[(.*)\]$/, '$1');
    if (isIP(host) === 0) return { endpoint, address, credentials: tlsCredentials(files) };
    // etcd ignores the name, and the certificate is held against the address.
    return { endpoint, address, credentials: tlsCredentials(files, host), serverName: 'etcd' };
  });
}

function parseEndpoint(endpoint: string, tlsFiles: boolean): { address: string; tls: boolean } {
  const match = /^(?:(https?):\/\/)?([^/@\s]+:[0-9]{1,5})\/?$/.exec(endpoint);
  if (match !== null) {
    const port = Number(/[0-9]+$/.exec(match[2])?.[0]);
    if (port >= 1 && port <= 65535) {
      return { address: match[2], tls: match[1] === 'https' || (match[1] === undefined && tlsFiles) };
    }
  }
  const socket = /^unix:(?:\/\/)?(\/.+)$/.exec(endpoint);
  if (socket !== null) return { address: `unix:${socket[1]}`, tls: false };
  // What stands before an @ may be a password.
  const shown = endpoint.replace(/\/\/.*@/, '//…@');
  throw new UsageError(`--etcd-endpoints ${JSON.stringify(shown)}: expected a URL such as http://127.0.0.1:2379`);
}

interface TlsFiles {
  readonly ca: Buffer | null;
  readonly key: Buffer | null;
  readonly cert: Buffer | null;
  /** Their paths, for messages. */
  readonly names: string;
}

function readTlsFiles({ certFile, keyFile, caFile }: EtcdOptions): TlsFiles {
  const read = (flag: string, path: string | undefined) => (path === undefined ? null : readPem(flag, path));
  return {
    ca: read('--etcd-cafile', caFile),
    key: read('--etcd-keyfile', keyFile),
    cert: read('--etcd-certfile', certFile),
    names: [caFile, keyFile, certFile].filter((file) => file !== undefined).join(', '),
  };
}

function tlsCredentials({ ca, key, cert, names }: TlsFiles, ip?: string): ChannelCredentials {
  try {
    const roots = ca ?? Buffer.from(rootCertificates.join('\n'));
    const verify: VerifyOptions =
      ip === undefined ? {} : { checkServerIdentity: (_name, certificate) => checkServerIdentity(ip, certificate) };
    return credentials.createSsl(roots, key, cert, verify);
  } catch (error) {
    throw new UsageError(`etcd's TLS files ${names} cannot be used: ${errorMessage(error)}`);
  }
}

function readPem(flag: string, path: string): Buffer {
  let content: Buffer;
  try {
    content = readFileSync(path);
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new UsageError(`${flag} ${path} cannot be read: ${absent ? 'there is no such file' : errorMessage(error)}`);
  }
  if (!content.includes('-----BEGIN ')) throw new UsageError(`${flag} ${path}: expected a file in PEM form`);
  return content;
}
