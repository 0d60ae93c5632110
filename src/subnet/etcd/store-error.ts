/** What went wrong with etcd, told to a person in one line. */
import { status, type ServiceError } from '@grpc/grpc-js';
import { errorMessage, FlannelError } from '../../errors.js';

/** etcd could not be asked, or refused. `grpcCode` tells programs which. */
export class StoreError extends FlannelError {
  readonly grpcCode: number;

  constructor(message: string, grpcCode: number, options?: ErrorOptions) {
    super('STORE', message, options);
    this.name = 'StoreError';
    this.grpcCode = grpcCode;
  }
}

/** One endpoint's answer, or lack of one. */
export interface EndpointFailure {
  readonly endpoint: string;
  readonly error: unknown;
  /** It has answered before: it is an etcd, and the URL is right. */
  readonly hadAnswered?: boolean;
  /** What is wrong with the certificate that it was shown, if anything. */
  readonly certificateTrouble?: () => string | undefined;
}

/** Something speaks HTTP there, but no gRPC: a proxy, or another service. */
const NOT_GRPC = /^Received HTTP status code/;

/** Whether another endpoint may do better: this one did not answer, or is cut off from its cluster. */
export function isEndpointFailure(error: unknown): boolean {
  if (!isServiceError(error)) return false;
  if (NOT_GRPC.test(error.details) || isServersDeadline(error)) return true;
  // CANCELLED is never this side's doing here: a cancelled call's outcome is not looked at.
  return [status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.INTERNAL, status.CANCELLED].includes(error.code);
}

/** The limit of a call goes with it to etcd, which may notice first, and says so in Go's words under no code of its own. */
function isServersDeadline(error: ServiceError): boolean {
  return error.code === status.UNKNOWN && /context deadline exceeded/.test(error.details);
}

/** Whether a server of a cluster refused because it knows no leader. */
export function isWithoutLeader(error: unknown): boolean {
  return isServiceError(error) && NO_LEADER.test(error.details);
}

const NO_LEADER = /no leader/;

/** Whether the call should be made again with a new token. */
export function isTokenFailure(error: unknown): boolean {
  return (
    isServiceError(error) &&
    /invalid auth token|revision of auth store is old|user name is empty/.test(error.details || error.message)
  );
}

/** etcd refuses passwords while it runs without authentication; flannel goes on without one, and so does this. */
export function isAuthDisabled(error: unknown): boolean {
  return isServiceError(error) && /authentication is not enabled/.test(error.details || error.message);
}

/** Whether an etcd lease has ended. */
export function isLeaseNotFound(error: unknown): boolean {
  return isServiceError(error) && /requested lease not found/.test(error.details || error.message);
}

/** Whether etcd takes no more writes, because its database has grown to its quota. What is told by `storeError`. */
export function isDatabaseFull(error: unknown): boolean {
  return error instanceof StoreError && isServiceError(error.cause) && DATABASE_FULL.test(error.cause.details);
}

/** Whether the answer is larger than either side lets through. What is told by `storeError`. */
export function isAnswerTooLarge(error: unknown): boolean {
  return error instanceof StoreError && isServiceError(error.cause) && /larger than max/.test(error.cause.details);
}

/** Whether the store has no such revision any more, since it was compacted or restored. What is told by `storeError`. */
export function isRevisionGone(error: unknown): boolean {
  return (
    error instanceof StoreError &&
    isServiceError(error.cause) &&
    /required revision (has been compacted|is a future revision)/.test(error.cause.details)
  );
}

const DATABASE_FULL = /database space exceeded/;

/** Puts the failures of all endpoints that were tried into one line; equal reasons are told once. */
export function storeError(failures: readonly EndpointFailure[]): StoreError {
  const byReason = new Map<string, string[]>();
  for (const failure of failures) {
    const reason = failureReason(failure);
    byReason.set(reason, [...(byReason.get(reason) ?? []), failure.endpoint]);
  }
  const parts = [...byReason].map(([reason, endpoints]) => `${endpoints.join(', ')}: ${reason}`);
  const last = failures.at(-1)?.error;
  const code = isServiceError(last) ? last.code : status.UNKNOWN;
  return new StoreError(`etcd at ${parts.join('; ')}`, code, { cause: last });
}

/** It did not like the certificate that it was shown, or that it was shown none. */
const CERTIFICATE_REFUSED =
  /alert (?:certificate (?:required|expired|unknown)|bad certificate|unknown ca)|certificate required/i;

/** gRPC's and etcd's words, in an operator's. */
const REASONS: readonly (readonly [pattern: RegExp, reason: string | ((match: RegExpExecArray) => string)])[] = [
  [/ECONNREFUSED/, 'connection refused; is etcd running there?'],
  [/ENOENT/, 'no such socket; is etcd running there?'],
  [/ENOTFOUND|EAI_AGAIN|Name resolution failed/, 'the host name cannot be resolved'],
  [/EHOSTUNREACH|ENETUNREACH/, 'no route to the host'],
  [/ETIMEDOUT/, 'no answer to the connection attempt'],
  [
    /(self[- ]signed certificate[^.;]*|unable to (?:verify|get)[^.;]*certificate[^.;]*)/i,
    (match) => `TLS: ${match[1].trim()}; check --etcd-cafile`,
  ],
  [
    /(certificate (?:has expired|is not yet valid))/i,
    (match) => `TLS: its ${match[1]}; replace it there, or set the clock that is wrong`,
  ],
  [/(Hostname\/IP does not match certificate's altnames[^;]*?)\. Resolution/, (match) => `TLS: ${match[1].trim()}`],
  [
    CERTIFICATE_REFUSED,
    'TLS: it demands a client certificate of its own authority; check --etcd-certfile and --etcd-keyfile',
  ],
  [NOT_GRPC, 'what answers there is no etcd'],
  [/^Response message parsing error/, 'what answers there is no etcd: its answer cannot be decoded'],
  [
    /wrong version number|packet length too long|EPROTO|disconnected before secure TLS connection/i,
    'it does not speak TLS; the URL should begin with http:// instead',
  ],
  [/invalid user ID or password/, 'user name or password refused; check --etcd-username and --etcd-password'],
  [/user name is empty/, 'it demands a user; set --etcd-username and --etcd-password'],
  [/permission denied/, 'permission denied: this user needs to read and write all keys under --etcd-prefix'],
  [
    DATABASE_FULL,
    'its database is full, so that it takes no writes: delete what is not needed, then "etcdctl compact", ' +
      '"etcdctl defrag" and "etcdctl alarm disarm"',
  ],
  [NO_LEADER, 'it has no leader: most members of its cluster are away, or it is cut off from them'],
  [/request timed out/, 'it cannot reach the other members of its cluster'],
];

/** Why one endpoint failed, without its name. */
function failureReason({ endpoint, error, hadAnswered, certificateTrouble }: EndpointFailure): string {
  const text = isServiceError(error) ? error.details || error.message : errorMessage(error);
  if (CERTIFICATE_REFUSED.test(text)) {
    const trouble = certificateTrouble?.();
    if (trouble !== undefined) return `TLS: ${trouble}`;
  }
  for (const [pattern, reason] of REASONS) {
    const match = pattern.exec(text);
    if (match !== null) return typeof reason === 'string' ? reason : reason(match);
  }
  if (isServiceError(error) && (error.code === status.DEADLINE_EXCEEDED || isServersDeadline(error))) {
    return 'no answer in time';
  }
  if (/ECONNRESET|socket hang up|Failed to connect|dropped|closed|disconnected|GOAWAY/i.test(text)) {
    if (hadAnswered === true) return 'it closed the connection';
    const wanted = endpoint.startsWith('https://')
      ? 'http:// or a client certificate'
      : 'https:// or a client certificate';
    return `it closed the connection; does it expect ${wanted}?`;
  }
  // gRPC wraps what it was told in words of its own.
  return text
    .replace(/^etcdserver: |^No connection established\. Last error: |\(\d{4}-[0-9T:.-]+Z\)|Resolution note: .*$/g, '')
    .replace(/\s+/g, ' ')
    .trim();
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'details' in error;
}
