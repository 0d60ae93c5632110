/**
 * Whether an answer is one that etcd would give. What stands behind an endpoint may be anything that speaks gRPC, and
 * protobuf's messages lack nothing that is demanded: a field that is not there reads as null, 0 or empty.
 */
import { status } from '@grpc/grpc-js';
import type * as rpc from 'etcd3';
import { serviceError } from './grpc-call.js';
import type { Calls, Streams } from './store-connection.js';

/** The keys that were asked for: one, or a range of them. */
interface AskedKeys {
  readonly key?: Buffer | string;
  readonly range_end?: Buffer | string;
}

interface Answers extends Calls {
  watch: [AskedKeys, Streams['watch'][1]];
  leaseKeepAlive: Streams['leaseKeepAlive'];
}

/** The longest time that etcd gives a lease. */
const LONGEST_LEASE_SECONDS = 9_000_000_000;

/** What is wrong with an answer that has a header, by what it answers. */
const TROUBLES: { readonly [M in keyof Answers]: (answer: Answers[M][1], request: Answers[M][0]) => Trouble } = {
  range: (answer, request) =>
    revisionTrouble(answer.header) ??
    (answer.more && answer.kvs.length === 0 ? 'tells of more keys, and none of them' : undefined) ??
    keysTrouble(answer.kvs, request),
  txn: (answer, request) =>
    revisionTrouble(answer.header) ?? (answer.succeeded ? undefined : lookTrouble(answer, request)),
  leaseGrant: ({ ID, TTL }) => (ID === '0' ? 'names no lease' : timeTrouble(TTL, 1)),
  leaseRevoke: () => undefined,
  // What has ended has less than no time left.
  leaseTimeToLive: ({ ID, TTL }, request) => leaseTrouble(ID, request) ?? timeTrouble(TTL, -LONGEST_LEASE_SECONDS),
  leaseKeepAlive: ({ ID, TTL }, request) => leaseTrouble(ID, request) ?? timeTrouble(TTL, 0),
  authenticate: ({ token }) => (token === '' ? 'has no token' : undefined),
  watch: (answer, request) =>
    // A watch that is cancelled says why itself, and its header may tell no revision.
    (answer.canceled ? undefined : revisionTrouble(answer.header)) ?? eventsTrouble(answer.events, request),
};

type Trouble = string | undefined;

/**
 * Gives an answer back that etcd might have given.
 * @throws ServiceError, gRPC's, for any other: another endpoint may do better
 */
export function checkedAnswer<M extends keyof Answers>(
  method: M,
  request: Answers[M][0],
  answer: unknown,
): Answers[M][1] {
  const trouble = hasHeader(answer) ? TROUBLES[method](answer as Answers[M][1], request) : 'has no header';
  if (trouble === undefined) return answer as Answers[M][1];
  throw serviceError(status.INTERNAL, `what answers there is no etcd: its answer to ${NAMES[method]} ${trouble}`);
}

const NAMES: Readonly<Record<keyof Answers, string>> = {
  range: 'a read',
  txn: 'a transaction',
  leaseGrant: 'the grant of a lease',
  leaseRevoke: 'the end of a lease',
  leaseTimeToLive: 'the question for the time of a lease',
  leaseKeepAlive: 'the renewal of a lease',
  authenticate: 'a login',
  watch: 'a watch',
};

function hasHeader(answer: unknown): boolean {
  return typeof answer === 'object' && answer !== null && 'header' in answer && answer.header !== null;
}

function revisionTrouble({ revision }: rpc.IResponseHeader): Trouble {
  return /^[1-9][0-9]*$/.test(revision) ? undefined : `tells the revision ${revision}`;
}

function leaseTrouble(id: string, request: { readonly ID?: string | number }): Trouble {
  return id === String(request.ID) ? undefined : 'is about another lease';
}

function timeTrouble(seconds: string, least: number): Trouble {
  const within = Number(seconds) >= least && Number(seconds) <= LONGEST_LEASE_SECONDS;
  return within ? undefined : `gives it ${seconds} seconds`;
}

/** What a transaction tells of the keys that it was to look at where it writes nothing. */
function lookTrouble({ responses }: rpc.ITxnResponse, { failure = [] }: rpc.ITxnRequest): Trouble {
  for (const [index, { request_range: asked }] of failure.entries()) {
    if (asked === undefined) continue;
    const found = responses.at(index)?.response_range;
    const trouble = found ? keysTrouble(found.kvs, asked) : 'does not tell what is there';
    if (trouble !== undefined) return trouble;
  }
  return undefined;
}

function eventsTrouble(events: readonly rpc.IEvent[], asked: AskedKeys): Trouble {
  // The types name the kinds Put and Delete; on the wire they are PUT and DELETE.
  const strange = events.find(({ type }) => !['PUT', 'DELETE'].includes(String(type).toUpperCase()));
  if (strange !== undefined) return `has an event of the type ${String(strange.type)}`;
  const kvs = events.map(({ kv }): rpc.IKeyValue | null => kv);
  return keysTrouble(kvs, asked);
}

function keysTrouble(kvs: readonly (rpc.IKeyValue | null)[], { key = '', range_end: end }: AskedKeys): Trouble {
  const first = Buffer.from(key);
  const last = end === undefined ? undefined : Buffer.from(end);
  for (const kv of kvs) {
    if (kv === null) return 'has an event without a key';
    const asked = last === undefined ? kv.key.equals(first) : kv.key.compare(first) >= 0 && kv.key.compare(last) < 0;
    if (!asked) return 'has a key that was not asked for';
  }
  return undefined;
}
