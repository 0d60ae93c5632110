/**
 * Certificates, key and authority as they are on disk now: whoever renews them replaces the files, and no restart is
 * needed. They are read for every connection that is made. A pair of which one half is written has no connection fail:
 * what was usable last is used until the files are usable again.
 */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import type { SecureContext } from 'node:tls';
import { ChannelCredentials } from '@grpc/grpc-js';
import type { VerifyOptions } from '@grpc/grpc-js';
import { errorMessage, UsageError } from '../../errors.js';
import type { Logger } from '../../log.js';
import { ReasonReporter } from '../../reason-reporter.js';

/** Paths of PEM files, each where its flag was given. */
export interface TlsPaths {
  /** Authorities that the server's certificate is checked against. */
  readonly caFile?: string;
  /** What this side shows, and its key: both or neither. */
  readonly certFile?: string;
  readonly keyFile?: string;
}

/** Absent without its flag. */
interface TlsContents {
  readonly ca?: Buffer;
  readonly key?: Buffer;
  readonly cert?: Buffer;
}

export class TlsFiles {
  private contents: TlsContents;
  private context: SecureContext;
  private readonly troubles: ReasonReporter;

  /** @throws UsageError naming the flag, when a file cannot be read or used */
  constructor(
    private readonly paths: TlsPaths,
    private readonly logger?: Logger,
  ) {
    this.contents = this.read();
    this.context = this.use(this.contents);
    this.troubles = new ReasonReporter((reason) => {
      logger?.warn(`${reason}; connecting to etcd with what was there before`);
    });
  }

  /** For a connection that is made now. */
  credentials(verify: VerifyOptions = {}): ChannelCredentials {
    this.refresh();
    return ChannelCredentials.createFromSecureContext(this.context, verify);
  }

  /** What is wrong with the client certificate in use, by this host's clock. */
  certificateTrouble(nowMs = Date.now()): string | undefined {
    const { cert } = this.contents;
    if (cert === undefined) return undefined;
    const { validFrom, validTo } = new X509Certificate(cert);
    const file = `the client certificate in ${this.paths.certFile}`;
    if (nowMs > Date.parse(validTo)) return `${file} has expired (${validTo}); replace it`;
    if (nowMs < Date.parse(validFrom)) return `${file} is not valid before ${validFrom}; is this host's clock right?`;
    return undefined;
  }

  private refresh(): void {
    try {
      const now = this.read();
      if (!sameContents(now, this.contents)) {
        this.context = this.use(now);
        this.contents = now;
        this.logger?.info('the TLS files for etcd have changed: connections from now on use them');
      }
      this.troubles.clear();
    } catch (error) {
      this.troubles.report(errorMessage(error));
    }
  }

  private read(): TlsContents {
    const { caFile, keyFile, certFile } = this.paths;
    const read = (flag: string, path: string | undefined) => (path === undefined ? undefined : readPem(flag, path));
    return {
      ca: read('--etcd-cafile', caFile),
      key: read('--etcd-keyfile', keyFile),
      cert: read('--etcd-certfile', certFile),
    };
  }

  private use(contents: TlsContents): SecureContext {
    try {
      return createSecureContext(contents);
    } catch (error) {
      const { caFile, keyFile, certFile } = this.paths;
      const names = [caFile, keyFile, certFile].filter((file) => file !== undefined).join(', ');
      throw new UsageError(`etcd's TLS files ${names} cannot be used: ${errorMessage(error)}`);
    }
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

function sameContents(one: TlsContents, other: TlsContents): boolean {
  return (['ca', 'key', 'cert'] as const).every((name) => {
    const [a, b] = [one[name], other[name]];
    return a === undefined || b === undefined ? a === b : a.equals(b);
  });
}
