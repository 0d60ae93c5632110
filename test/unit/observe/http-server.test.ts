/** Clients that ask much and read little: what an answer costs stays bounded, and others are answered meanwhile. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Server } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { afterEach, describe, test } from 'node:test';
import { until } from '../../harness/until.js';
import { closeServer, createQuestionServer, type Answer } from '../../../src/observe/http-server.js';

const QUESTION = 'GET /long HTTP/1.1\r\nHost: node\r\n\r\n';
/** More than the kernel's buffers at both ends take. */
const LONG_BYTES = 16 * 1024 * 1024;

let server: Server;
const clients: Socket[] = [];

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  await closeServer(server);
});

const text = (body: string): Answer => ({ status: 200, contentType: 'text/plain', body });
const writeError = (status: number, message: string): Answer => ({ ...text(message), status });

/** Answers `/long` with what `long` makes, and every other path at once. */
async function listen(long: () => Answer['body'] | Promise<Answer['body']>, answerTimeoutMs?: number): Promise<void> {
  const route = async (path: string): Promise<Answer> =>
    path === '/long' ? { ...text(''), body: await long() } : text('here');
  server = createQuestionServer(route, writeError, { answerTimeoutMs });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
}

/** A client that reads nothing of itself. */
function client(): Socket {
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => undefined);
  socket.pause();
  clients.push(socket);
  return socket;
}

function connections(): Promise<number> {
  return new Promise((resolve) => server.getConnections((_error, count) => resolve(count)));
}

async function assertAnswersOthers(): Promise<void> {
  const { port } = server.address() as AddressInfo;
  assert.equal(await (await fetch(`http://127.0.0.1:${port}/healthz`)).text(), 'here');
}

describe('a client that reads little', () => {
  test('and asks on is sent away, with few answers made for it', async () => {
    let made = 0;
    await listen(() => `${++made}`);
    client().write(QUESTION.repeat(1000));
    await until('it is sent away', async () => made > 0 && (await connections()) === 0);
    // One for each piece in which the questions came.
    assert.ok(made < 10, `${made} answers were made`);
    await assertAnswersOthers();
  });

  test('may ask one thing after the other, on one connection', async () => {
    let made = 0;
    await listen(() => `answer ${++made}`);
    const socket = client().setEncoding('utf8').resume();
    for (let asked = 1; asked <= 20; asked++) {
      socket.write(QUESTION);
      let read = '';
      while (!read.endsWith(`answer ${asked}`)) read += String((await once(socket, 'data'))[0]);
    }
  });

  for (const [how, bytes] of [
    ['reads nothing', 0],
    ['reads a little at a time', 8192],
  ] as const) {
    test(`and ${how} is sent away in the end, and keeps nobody waiting until then`, async () => {
      const answer = 'x'.repeat(LONG_BYTES);
      let made = 0;
      await listen(() => (made++, answer), 1000);
      const slow = Array.from({ length: 8 }, client);
      const reading = setInterval(() => slow.forEach((socket) => void (bytes > 0 && socket.read(bytes))), 20);
      try {
        for (const socket of slow) socket.write(QUESTION);
        await until('each is being answered', () => made === slow.length);
        await assertAnswersOthers();
        await until('they are sent away', async () => (await connections()) === 0);
      } finally {
        clearInterval(reading);
      }
    });
  }

  test('has the pieces of a long answer made as it reads, and no further', async () => {
    const pieces = 1024;
    let made = 0;
    let over: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => (over = resolve));
    await listen(function* () {
      try {
        for (; made < pieces; made++) yield 'x'.repeat(LONG_BYTES / pieces);
      } finally {
        over();
      }
    }, 1000);
    client().write(QUESTION);
    await ended;
    assert.ok(made < pieces, `${made} of ${pieces} were made`);
    await assertAnswersOthers();
  });
});
