/** Members of a cluster in trouble, as servers that answer what those do: who is asked, and what is made of it. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import type { sendUnaryData, ServerUnaryCall, StatusObject } from '@grpc/grpc-js';
import { EtcdConnection } from '../../../src/subnet/etcd/connection.js';
import { DEFAULT_TIMINGS, etcdTargets } from '../../../src/subnet/etcd/options.js';
import { StoreError } from '../../../src/subnet/etcd/store-error.js';
import { startGrpcServer, type GrpcServer } from './grpc-server.js';

const NO_LEADER = { code: status.UNAVAILABLE, details: 'etcdserver: no leader' };
/** What etcd answers when the limit of a call has run out over there. */
const OUT_OF_TIME = { code: status.UNKNOWN, details: 'context deadline exceeded' };

const servers: GrpcServer[] = [];
let connection: EtcdConnection | undefined;
afterEach(() => {
  connection?.close();
  for (const server of servers.splice(0)) server.close();
});

/** The error that a member answers with, if any, told whether the caller wants an answer only of one with a leader. */
type Behaviour = (needsLeader: boolean) => Partial<StatusObject> | undefined;

/** Asks members that behave so, the first of them first; answers the number of the one whose answer it was. */
async function ask(...members: Behaviour[]): Promise<number> {
  for (const [number, behave] of members.entries()) {
    const range = ({ metadata }: ServerUnaryCall<unknown, unknown>, done: sendUnaryData<unknown>): void => {
      const error = behave(metadata.get('hasleader')[0] === 'true');
      done(error ?? null, { header: { revision: '7', raft_term: String(number) } });
    };
    servers.push(await startGrpcServer({ KV: { range } }));
  }
  const endpoints = servers.map(({ endpoint }) => endpoint);
  const targets = etcdTargets({ endpoints, prefix: '/coreos.com/network' });
  connection = new EtcdConnection({ targets, timings: DEFAULT_TIMINGS, random: () => 0 });
  const context = { operation: 'get', signal: new AbortController().signal } as const;
  const { header } = await connection.call('range', { key: Buffer.from('x') }, context);
  return Number(header.raft_term);
}

const healthy: Behaviour = () => undefined;
const slow: Behaviour = () => OUT_OF_TIME;
const cutOff: Behaviour = (needsLeader) => (needsLeader ? NO_LEADER : OUT_OF_TIME);
const electing: Behaviour = (needsLeader) => (needsLeader ? NO_LEADER : undefined);

test('a member that is cut off from the others is left at once', async () => {
  const asked: boolean[] = [];
  const first: Behaviour = (needsLeader) => (asked.push(needsLeader), cutOff(needsLeader));
  assert.equal(await ask(first, healthy), 1);
  assert.deepEqual(asked, [true], 'it is not asked to wait for a leader');
});

test('a member that does not know yet that it is cut off is left when its time is over', async () => {
  assert.equal(await ask(slow, healthy), 1);
});

test('while nobody has a leader, one is waited for', async () => {
  assert.equal(await ask(slow, electing, electing), 1);
});

test('when no member is of any use, each is told of, once', async () => {
  await assert.rejects(ask(cutOff, slow), (error) => {
    assert.ok(error instanceof StoreError);
    assert.equal(error.message, `etcd at ${servers.map(({ endpoint }) => endpoint).join(', ')}: no answer in time`);
    return true;
  });
});
