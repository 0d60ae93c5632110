/** Members of a cluster in trouble, as servers that answer what those do: who is asked, and what is made of it. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import type { sendUnaryData, ServerUnaryCall, StatusObject } from '@grpc/grpc-js';
import { EtcdConnection } from '../../../src/subnet/etcd/connection.js';
import { DEFAULT_TIMINGS, etcdTargets } from '../../../src/subnet/etcd/options.js';
import { StoreError } from '../../../src/subnet/etcd/store-error.js';
import { startEtcdLike, type GrpcServer } from './grpc-server.js';

const NO_LEADER = { code: status.UNAVAILABLE, details: 'etcdserver: no leader' };
/** What etcd answers when the limit of a call has run out over there. */
const OUT_OF_TIME = { code: status.UNKNOWN, details: 'context deadline exceeded' };
const HEADER = { revision: '7' };
const KEY = { key: Buffer.from('x') };
const CONTEXT = { operation: 'get', signal: new AbortController().signal } as const;

const servers: GrpcServer[] = [];
let connection: EtcdConnection | undefined;
afterEach(end);

function end(): void {
  connection?.close();
  for (const server of servers.splice(0)) server.close();
}

/** The error that a member answers with, if any, told whether the caller wants an answer only of one with a leader. */
type Behaviour = (needsLeader: boolean) => Partial<StatusObject> | undefined;

/** Asks members that behave so, the first of them first; answers the number of the one whose answer it was. */
function ask(...members: Behaviour[]): Promise<number> {
  return askFirst(0, ...members);
}

/** The same, where chance (from 0 up to 1) decides which of them is the first. */
async function askFirst(chance: number, ...members: Behaviour[]): Promise<number> {
  for (const [number, behave] of members.entries()) {
    const range = ({ metadata }: ServerUnaryCall<unknown, unknown>, done: sendUnaryData<unknown>): void => {
      const error = behave(metadata.get('hasleader')[0] === 'true');
      done(error ?? null, { header: { ...HEADER, raft_term: String(number) } });
    };
    servers.push(await startEtcdLike({ KV: { range } }));
  }
  const endpoints = servers.map(({ endpoint }) => endpoint);
  const targets = etcdTargets({ endpoints, prefix: '/coreos.com/network' });
  connection = new EtcdConnection({ targets, timings: DEFAULT_TIMINGS, random: () => chance });
  const { header } = await connection.call('range', KEY, CONTEXT);
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

test('nodes begin with one of the members each, by chance', async () => {
  for (const [chance, number] of [
    [0, 0],
    [0.34, 1],
    [0.67, 2],
    [0.99, 2],
  ]) {
    end();
    assert.equal(await askFirst(chance, healthy, healthy, healthy), number);
  }
});

test('however many calls find a login forgotten, one new one is made', async () => {
  let logins = 0;
  let token = '';
  const authenticate = (_call: unknown, done: sendUnaryData<unknown>): void => {
    token = `token ${++logins}`;
    done(null, { header: HEADER, token });
  };
  const range = ({ metadata }: ServerUnaryCall<unknown, unknown>, done: sendUnaryData<unknown>): void => {
    if (metadata.get('token')[0] === token) done(null, { header: HEADER });
    else done({ code: status.UNAUTHENTICATED, details: 'etcdserver: invalid auth token' });
  };
  servers.push(await startEtcdLike({ Auth: { authenticate }, KV: { range } }));
  const targets = etcdTargets({ endpoints: [servers[0].endpoint], prefix: '/coreos.com/network' });
  const connected = new EtcdConnection({ targets, timings: DEFAULT_TIMINGS, username: 'flannel' });
  connection = connected;
  const many = (): Promise<unknown> =>
    Promise.all(Array.from({ length: 20 }, () => connected.call('range', KEY, CONTEXT)));
  await many();
  assert.equal(logins, 1);
  token = 'forgotten';
  await many();
  assert.equal(logins, 2);
});
