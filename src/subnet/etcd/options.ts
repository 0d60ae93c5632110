/** How etcd is reached: the flags of flanneld, checked once and turned into targets and credentials. */
import { isIP } from 'node:net';
import { checkServerIdentity } from 'node:tls';
import { credentials } from '@grpc/grpc-js';
import type { ChannelCredentials, VerifyOptions } from '@grpc/grpc-js';
import { UsageError } from '../../errors.js';
import type { Logger } from '../../log.js';
import { TlsFiles, type TlsPaths } from './tls-files.js';

/** flannel's `--etcd-…` flags. */
export interface EtcdOptions extends TlsPaths {
  /** `http://HOST:PORT`, `https://HOST:PORT`, `HOST:PORT` (https when a certificate or CA is given) or `unix:///PATH`. */
  readonly endpoints: readonly string[];
  /** Folder of keys that holds `config` and `subnets/`. */
  readonly prefix: string;
  readonly username?: string;
  readonly password?: string;
  /** A file that holds it instead. */
  readonly passwordFile?: string;
}

/** Tuning that tests need and operators do not. */
export interface EtcdTimings {
  /** How long one call to one endpoint may take. */
  readonly requestTimeoutMs: number;
  /** How long a server may take to accept a connection, and how long that is waited for while there is another. */
  readonly connectTimeoutMs: number;
  /** Pings on a connection in use find a server that is gone without a word. */
  readonly keepaliveMs: number;
  readonly keepaliveTimeoutMs: number;
}

export const DEFAULT_TIMINGS: EtcdTimings = {
  requestTimeoutMs: 5_000,
  connectTimeoutMs: 1_000,
  // etcd closes connections that ping more often than every 5 s.
  keepaliveMs: 6_000,
  keepaliveTimeoutMs: 3_000,
};

/** One server, ready to be dialled. */
export interface EtcdTarget {
  /** As the operator wrote it, for messages. */
  readonly endpoint: string;
  /** As gRPC wants it. */
  readonly address: string;
  /** Whether a name has to be resolved first. */
  readonly named: boolean;
  /** For a connection that is made now. */
  credentials(): ChannelCredentials;
  /** The name of TLS's server name indication, which may be no IP address (RFC 6066, section 3). */
  readonly serverName?: string;
  /** What is wrong with the certificate that this side shows, if anything. */
  readonly certificateTrouble?: () => string | undefined;
}

/**
 * Checks endpoints and reads the files they need.
 * @param logger - told when the files have changed, and when they cannot be used any more
 * @throws UsageError naming the flag, when an endpoint makes no sense or a file cannot be read or used
 */
export function etcdTargets(options: EtcdOptions, logger?: Logger): EtcdTarget[] {
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
  const files = new TlsFiles(options, logger);
  return options.endpoints.map((endpoint) => {
    const { address, tls } = parseEndpoint(endpoint, tlsFiles);
    const host = address.replace(/:[0-9]+$/, '').replace(/^\[(.*)\]$/, '$1');
    const named = isIP(host) === 0 && !address.startsWith('unix:');
    if (!tls) return { endpoint, address, named, credentials: () => credentials.createInsecure() };
    const certificateTrouble = () => files.certificateTrouble();
    if (named) return { endpoint, address, named, credentials: () => files.credentials(), certificateTrouble };
    // etcd ignores the name, and the certificate is held against the address.
    const verify: VerifyOptions = {
      checkServerIdentity: (_name, certificate) => checkServerIdentity(host, certificate),
    };
    const serverName = 'etcd';
    return { endpoint, address, named, credentials: () => files.credentials(verify), serverName, certificateTrouble };
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
  const shown = endpoint.replace(/^([a-z]+:\/\/)?.*@/i, '$1…@');
  throw new UsageError(`--etcd-endpoints ${JSON.stringify(shown)}: expected a URL such as http://127.0.0.1:2379`);
}
