import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Metadata, status } from '@grpc/grpc-js';
import { isEndpointFailure, isTokenFailure, storeError } from '../../../src/subnet/etcd/store-error.js';

function grpcError(code: status, details: string): Error {
  return Object.assign(new Error(`${code} ${details}`), { code, details, metadata: new Metadata() });
}

const refusedError = (port: number) =>
  grpcError(
    status.UNAVAILABLE,
    `No connection established. Last error: Error: connect ECONNREFUSED 127.0.0.1:${port}. Resolution note: `,
  );

test('endpoints that fail alike are told together, others with their own reason', () => {
  const error = storeError([
    { endpoint: 'http://127.0.0.1:4001', error: refusedError(4001) },
    { endpoint: 'http://127.0.0.1:2379', error: refusedError(2379) },
    { endpoint: 'http://10.0.0.1:2379', error: grpcError(status.DEADLINE_EXCEEDED, 'Deadline exceeded after 5s') },
  ]);
  assert.equal(error.code, 'STORE');
  assert.equal(
    error.message,
    'etcd at http://127.0.0.1:4001, http://127.0.0.1:2379: connection refused; is etcd running there?; ' +
      'http://10.0.0.1:2379: no answer in time',
  );
});

test('what gRPC and etcd say becomes one line that stays the same from one try to the next', () => {
  const cases: [status, string, RegExp][] = [
    [status.UNAVAILABLE, 'Name resolution failed for target dns:etcd.example:2379', /host name cannot be resolved/],
    [
      status.UNAVAILABLE,
      'No connection established. Last error: Failed to connect (2026-01-02T03:04:05.678Z)',
      /https/,
    ],
    [status.UNAVAILABLE, 'etcdserver: no leader', /no leader/],
    [status.UNKNOWN, 'context deadline exceeded', /no answer in time/],
    [status.UNAVAILABLE, 'etcdserver: request timed out', /other members/],
    [status.PERMISSION_DENIED, 'etcdserver: permission denied', /--etcd-prefix/],
    [status.INVALID_ARGUMENT, 'etcdserver: authentication failed, invalid user ID or password', /--etcd-password/],
    [status.INVALID_ARGUMENT, 'etcdserver: user name is empty', /--etcd-username/],
    [status.RESOURCE_EXHAUSTED, 'etcdserver: mvcc: database space exceeded', /database is full/],
    [status.UNIMPLEMENTED, 'Received HTTP status code 404', /no etcd/],
    [
      status.UNAVAILABLE,
      'No connection established. Last error: 00FF: odd\n (2026-01-02T03:04:05.678Z)',
      /: 00FF: odd$/,
    ],
  ];
  for (const [code, details, pattern] of cases) {
    const { message } = storeError([{ endpoint: 'http://etcd:2379', error: grpcError(code, details) }]);
    assert.match(message, pattern);
    assert.doesNotMatch(message, /\n|2026-01-02/);
  }
});

test('another endpoint is tried when one does not answer, not when it refuses', () => {
  assert.equal(isEndpointFailure(refusedError(1)), true);
  assert.equal(isEndpointFailure(grpcError(status.DEADLINE_EXCEEDED, '')), true);
  assert.equal(isEndpointFailure(grpcError(status.UNKNOWN, 'context deadline exceeded')), true);
  assert.equal(isEndpointFailure(grpcError(status.UNIMPLEMENTED, 'Received HTTP status code 404')), true);
  assert.equal(isEndpointFailure(grpcError(status.PERMISSION_DENIED, 'etcdserver: permission denied')), false);
  assert.equal(isEndpointFailure(new TypeError('a bug')), false);
});

test('a token that etcd does not know any more is a reason to authenticate again', () => {
  assert.equal(isTokenFailure(grpcError(status.UNAUTHENTICATED, 'etcdserver: invalid auth token')), true);
  assert.equal(isTokenFailure(grpcError(status.INVALID_ARGUMENT, 'etcdserver: revision of auth store is old')), true);
  assert.equal(isTokenFailure(grpcError(status.PERMISSION_DENIED, 'etcdserver: permission denied')), false);
});

test('a connection closed before any answer may be for want of TLS; one that had answered is not', () => {
  const error = grpcError(status.UNAVAILABLE, 'read ECONNRESET');
  const [fresh, known] = [false, true].map((hadAnswered) =>
    storeError([{ endpoint: 'http://etcd:2379', error, hadAnswered }]),
  );
  assert.match(fresh.message, /it closed the connection; does it expect https/);
  const overTls = storeError([{ endpoint: 'https://127.0.0.1:2379', error }]);
  assert.match(overTls.message, /it closed the connection; does it expect http:\/\/ or a client certificate/);
  assert.match(known.message, /it closed the connection$/);
});
