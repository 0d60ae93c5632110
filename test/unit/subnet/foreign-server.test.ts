/** Servers that speak gRPC and are no etcd, or one that has gone mad: each is told of in one line, and may be repaired. */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type {
  MethodDefinition,
  sendUnaryData,
  ServerDuplexStream,
  ServerUnaryCall,
  UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { errorMessage } from '../../../src/errors.js';
import { EtcdConnection } from '../../../src/subnet/etcd/connection.js';
import { LeaseStore } from '../../../src/subnet/etcd/lease-store.js';
import { DEFAULT_TIMINGS, etcdTargets } from '../../../src/subnet/etcd/options.js';
import type { Calls, Streams } from '../../../src/subnet/etcd/store-connection.js';
import { StoreError } from '../../../src/subnet/etcd/store-error.js';
import { watch } from '../../../src/subnet/etcd/watch-stream.js';
import { startEtcdLike, startGrpcServer, type GrpcServer } from './grpc-server.js';

const PREFIX = '/coreos.com/network';
const HEADER = { revision: '7' };
const LEASE = '4711';
const KEY = { key: Buffer.from(`${PREFIX}/subnets/10.5.1.0-24`), value: Buffer.from('{}') };

type Method = keyof Calls | keyof Streams;

/** What a sound etcd answers here. */
const SOUND: Readonly<Record<Method, object>> = {
  range: { header: HEADER },
  txn: { header: HEADER, succeeded: true },
  leaseGrant: { header: HEADER, ID: LEASE, TTL: '86400' },
  leaseRevoke: { header: HEADER },
  leaseTimeToLive: { header: HEADER, ID: LEASE, TTL: '86400' },
  leaseKeepAlive: { header: HEADER, ID: LEASE, TTL: '86400' },
  authenticate: { header: HEADER, token: 'secret' },
  watch: { header: HEADER, created: true },
};

let server: GrpcServer;
let connection: EtcdConnection;
afterEach(() => {
  connection.close();
  server.close();
});

function connect(username?: string): LeaseStore {
  const targets = etcdTargets({ endpoints: [server.endpoint], prefix: PREFIX });
  connection = new EtcdConnection({ targets, timings: DEFAULT_TIMINGS, username });
  return new LeaseStore(connection, PREFIX, 86_400);
}

async function assertRefused(acting: Promise<unknown>, says: RegExp): Promise<void> {
  await assert.rejects(acting, (error) => {
    assert.ok(error instanceof StoreError, String(error));
    assert.equal(error.code, 'STORE');
    assert.match(error.message, /^etcd at http:\/\/127\.0\.0\.1:[0-9]+: [^\n]*$/);
    assert.match(error.message, says);
    assert.doesNotMatch(error.message, /undefined|null|NaN|is not a function|Cannot read/);
    return true;
  });
}

const { signal } = new AbortController();
type Act = (store: LeaseStore) => Promise<unknown>;
const read: Act = (store) => store.config(signal);
const list: Act = (store) => store.list(signal);
const create: Act = (store) => store.create('10.5.1.0-24', '{}', 'lease', signal);
const prolong: Act = (store) => store.keepAlive(LEASE, signal);
const askExpiry: Act = (store) => store.expiry(LEASE, signal);
const follow: Act = ({ connection: by, subnetsKey }) => {
  const range = { key: Buffer.from(subnetsKey), rangeEnd: Buffer.from(`${PREFIX}/subnets0`) };
  return watch(by, { ...range, afterRevision: '7', events: () => undefined }, signal);
};

describe('a server that answers what cannot be decoded', () => {
  const same = (bytes: Buffer): Buffer => bytes;
  const RANGE: MethodDefinition<Buffer, Buffer> = {
    path: '/etcdserverpb.KV/Range',
    requestStream: false,
    responseStream: false,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  };
  const answers: readonly (readonly [what: string, bytes: Buffer, says: RegExp])[] = [
    ['nothing at all', Buffer.alloc(0), /what answers there is no etcd: its answer to a read has no header$/],
    ['half a message', Buffer.from('0a7f01', 'hex'), /what answers there is no etcd: its answer cannot be decoded$/],
  ];
  for (const [what, bytes, says] of answers) {
    test(`is a store that fails: ${what}`, async () => {
      const range = (_call: unknown, done: sendUnaryData<Buffer>): void => done(null, bytes);
      server = await startGrpcServer([[{ range: RANGE }, { range }]]);
      await assertRefused(read(connect()), says);
    });
  }
});

describe('a server whose answers make no sense', () => {
  const cases: readonly (readonly [act: Act, method: Method, answer: object, says: RegExp])[] = [
    [read, 'range', { header: { revision: '0' } }, /a read tells the revision 0$/],
    [read, 'range', { header: HEADER, kvs: [KEY] }, /a read has a key that was not asked for$/],
    [list, 'range', { header: HEADER, more: true }, /a read tells of more keys, and none of them$/],
    [list, 'range', { header: HEADER, kvs: [{ ...KEY, key: Buffer.from('x') }] }, /a key that was not asked for$/],
    [create, 'leaseGrant', {}, /the grant of a lease has no header$/],
    [create, 'leaseGrant', { header: HEADER, TTL: '86400' }, /the grant of a lease names no lease$/],
    [create, 'leaseGrant', { header: HEADER, ID: LEASE }, /the grant of a lease gives it 0 seconds$/],
    [create, 'txn', {}, /a transaction has no header$/],
    [create, 'txn', { header: {}, succeeded: true }, /a transaction tells the revision 0$/],
    [create, 'txn', { header: HEADER, succeeded: false }, /a transaction does not tell what is there$/],
    [
      create,
      'txn',
      { header: HEADER, responses: [{ response_range: { header: HEADER, kvs: [{ key: Buffer.from('x') }] } }] },
      /a transaction has a key that was not asked for$/,
    ],
    [prolong, 'leaseKeepAlive', { ID: LEASE, TTL: '60' }, /the renewal of a lease has no header$/],
    [prolong, 'leaseKeepAlive', { header: HEADER, TTL: '60' }, /the renewal of a lease is about another lease$/],
    [prolong, 'leaseKeepAlive', { header: HEADER, ID: LEASE, TTL: '9223372036854775807' }, /gives it [0-9]+ seconds$/],
    [askExpiry, 'leaseTimeToLive', { header: HEADER, ID: '1', TTL: '60' }, /time of a lease is about another lease$/],
    [follow, 'watch', { created: true }, /a watch has no header$/],
    [follow, 'watch', { header: {}, created: true }, /a watch tells the revision 0$/],
    [follow, 'watch', { header: HEADER, events: [{ type: 0 }] }, /a watch has an event without a key$/],
    [follow, 'watch', { header: HEADER, events: [{ type: 7, kv: KEY }] }, /a watch has an event of the type 7$/],
    [follow, 'watch', { header: HEADER, events: [{ type: 1, kv: {} }] }, /a watch has a key that was not asked for$/],
  ];
  for (const [act, method, answer, says] of cases) {
    test(`is a store that fails: ${method}, ${says.source}`, async () => {
      server = await startEtcdLike(services({ ...SOUND, [method]: answer }));
      await assertRefused(act(connect()), says);
    });
  }

  test('is a store that fails: a login without a token', async () => {
    server = await startEtcdLike(services({ ...SOUND, authenticate: { header: HEADER } }));
    await assertRefused(read(connect('flannel')), /a login has no token$/);
  });

  test('where all make sense, all is well', async () => {
    server = await startEtcdLike(services(SOUND));
    const store = connect('flannel');
    for (const act of [read, list, create, prolong, askExpiry]) {
      await act(store).catch((error: unknown) => assert.fail(errorMessage(error)));
    }
  });
});

function services(answers: Readonly<Record<Method, object>>): Record<'KV' | 'Lease' | 'Auth' | 'Watch', Service> {
  const unary = (method: Method) => (_call: ServerUnaryCall<unknown, unknown>, done: sendUnaryData<unknown>) =>
    done(null, answers[method]);
  const stream = (method: Method) => (call: ServerDuplexStream<unknown, unknown>) => {
    call.on('data', () => call.write(answers[method]));
    call.on('end', () => call.end());
  };
  return {
    KV: { range: unary('range'), txn: unary('txn') },
    Lease: {
      leaseGrant: unary('leaseGrant'),
      leaseRevoke: unary('leaseRevoke'),
      leaseTimeToLive: unary('leaseTimeToLive'),
      leaseKeepAlive: stream('leaseKeepAlive'),
    },
    Auth: { authenticate: unary('authenticate') },
    Watch: { watch: stream('watch') },
  };
}

type Service = UntypedServiceImplementation;
