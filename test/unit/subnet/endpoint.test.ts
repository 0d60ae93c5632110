import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import type { Clock } from '../../../src/clock.js';
import { Endpoint } from '../../../src/subnet/etcd/endpoint.js';
import type { Connection } from '../../../src/subnet/etcd/endpoint.js';

/** A connection whose fortune the test decides. */
class FakeConnection implements Connection {
  stands = false;
  pending = false;
  closed = false;
  succeed = (): void => undefined;
  fail = (_reason: string): void => undefined;

  open(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.succeed = () => {
        this.stands = true;
        resolve();
      };
      this.fail = (reason) => reject(new Error(reason));
    });
  }

  close(): void {
    this.closed = true;
  }
}

let nowMs: number;
let dialled: FakeConnection[];

beforeEach(() => {
  nowMs = 0;
  dialled = [];
});

function endpoint(random?: () => number): Endpoint<FakeConnection> {
  const clock: Clock = { now: () => nowMs, elapsed: () => nowMs, after: () => () => undefined };
  const dial = (): FakeConnection => {
    const connection = new FakeConnection();
    dialled.push(connection);
    return connection;
  };
  return new Endpoint({ clock, random, dial });
}

/** The moments of the attempts that somebody makes who asks all the time while the server is away. */
async function attempts(one: Endpoint<FakeConnection>, untilMs: number): Promise<number[]> {
  const moments: number[] = [];
  for (; nowMs < untilMs; nowMs++) {
    const before = dialled.length;
    const asked = one.connected();
    if (dialled.length > before) {
      moments.push(nowMs);
      dialled[before].fail('away');
    }
    await assert.rejects(asked, /away/);
  }
  return moments;
}

test('all who ask at once share one attempt, and the connection after it', async () => {
  const one = endpoint();
  const asked = [one.connected(), one.connected(), one.connected()];
  assert.equal(dialled.length, 1);
  dialled[0].succeed();
  assert.deepEqual(new Set(await Promise.all(asked)), new Set(dialled));
  assert.equal(await one.connected(), dialled[0]);
  assert.equal(dialled.length, 1);
});

test('a connection that broke is made anew at once, and the old one closed', async () => {
  const one = endpoint();
  const first = one.connected();
  dialled[0].succeed();
  (await first).stands = false;
  const second = one.connected();
  dialled[1].succeed();
  assert.equal(await second, dialled[1]);
  assert.equal(dialled[0].closed, true);
});

test('however many ask, a server that is away is tried less than three times a second', async () => {
  const moments = await attempts(
    endpoint(() => 0),
    10_000,
  );
  const pauses = moments.slice(1).map((moment, index) => moment - moments[index]);
  assert.deepEqual(pauses.slice(0, 6), [50, 100, 200, 375, 375, 375]);
  assert.ok(dialled.every(({ closed }) => closed));
});

test('the pauses are never longer than three quarters of a second, and begin anew after a connection', async () => {
  const one = endpoint(() => 1 - Number.EPSILON);
  const moments = await attempts(one, 10_000);
  const pauses = moments.slice(1).map((moment, index) => moment - moments[index]);
  assert.deepEqual(pauses.slice(0, 6), [100, 200, 400, 750, 750, 750]);
  nowMs += 750;
  const back = one.connected();
  dialled.at(-1)?.succeed();
  (await back).stands = false;
  const [first, second] = await attempts(one, nowMs + 200);
  assert.equal(second - first, 100);
});

test('nodes that lost the server together do not try together', async () => {
  const first = await attempts(endpoint(), 5_000);
  nowMs = 0;
  const second = await attempts(endpoint(), 5_000);
  assert.notDeepEqual(first.slice(1), second.slice(1));
});

test('a server that is reached and silent is tried again, and what answers late is used', async () => {
  const one = endpoint();
  for (let attempt = 0; attempt < 5; attempt++) {
    const asked = one.connected();
    dialled[attempt].pending = true;
    dialled[attempt].fail('silent');
    await assert.rejects(asked, /silent/);
    nowMs += 750;
  }
  assert.deepEqual(
    dialled.map(({ closed }) => closed),
    [true, true, false, false, false],
  );
  dialled[3].stands = true;
  assert.equal(await one.connected(), dialled[3]);
  assert.equal(dialled.length, 5);
  assert.deepEqual(
    dialled.map(({ closed }) => closed),
    [true, true, true, false, true],
  );
});

test('closing closes the connection, and there is no other', async () => {
  const one = endpoint();
  const asked = one.connected();
  dialled[0].succeed();
  (await asked).stands = false;
  one.close();
  assert.equal(dialled[0].closed, true);
  await assert.rejects(one.connected(), /was closed/);
  assert.equal(dialled.length, 1);
});
