/** The benchmark's native traffic program, over the loopback device. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { before, describe, test } from 'node:test';
import { ask, buildTraffic, flood, startCounting, startEcho, type CountReport } from '../../../bench/traffic.js';
import { namePrefix } from '../../harness/leftovers.js';
import { withNamespaces } from '../../harness/namespaces.js';

const MAGIC = 0x666c6f77;
/** IPv4 and UDP header before the payload of an overlay's datagram. */
const INNER_HEADERS = Buffer.concat([Buffer.from([0x45]), Buffer.alloc(27)]);

/** What a flood puts at the beginning of each datagram, as its struct lies in memory. */
function mark(flow: number, sequence: number): Buffer {
  const bytes = Buffer.alloc(64);
  bytes.writeUInt32LE(flow, 0);
  bytes.writeUInt32LE(MAGIC, 4);
  bytes.writeBigUInt64LE(BigInt(sequence), 8);
  return bytes;
}

/** Runs `count` for the time of `send`. */
async function counted(
  program: string,
  options: readonly string[],
  send: () => void | Promise<unknown>,
): Promise<CountReport> {
  const child = spawn(program, ['count', ...options], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  assert.deepEqual(JSON.parse(String((await lines.next()).value)), { ready: true });
  await send();
  child.stdin.end();
  return JSON.parse(String((await lines.next()).value)) as CountReport;
}

/** Sends datagrams to a port of the loopback address, in this order. */
async function sendAll(port: number, datagrams: readonly Buffer[]): Promise<void> {
  const socket = createSocket('udp4');
  try {
    for (const datagram of datagrams) {
      await new Promise((resolve) => socket.send(datagram, port, '127.0.0.1', resolve));
    }
  } finally {
    socket.close();
  }
}

/** A port that nobody has at this moment. */
async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  await once(socket, 'close');
  return port;
}

describe('the traffic program', () => {
  let program: string;

  before(async () => {
    program = await buildTraffic();
  });

  test('counts what carries its mark, and what comes after a later one of its flow', async () => {
    const port = await freeUdpPort();
    const datagrams = [
      ...[mark(0, 0), mark(1, 0), mark(0, 2), mark(0, 1), mark(1, 1)],
      // No mark, one of a flow that nobody sends, and one that is cut off.
      ...[Buffer.alloc(64), mark(7, 0), mark(0, 3).subarray(0, 15)],
    ];
    const report = await counted(program, [`port=${port}`, 'ports=1', 'flows=2', 'outer=0'], () =>
      sendAll(port, datagrams),
    );
    assert.deepEqual({ ...report, seconds: 0 }, { received: 5, reordered: 1, flows: 2, seconds: 0 });
    // From the first to the last that was read: none at all where one read had them all.
    assert.ok(report.seconds >= 0);
  });

  test('finds the marks behind the headers of an overlay’s datagrams', async () => {
    const port = await freeUdpPort();
    const inside = (datagram: Buffer): Buffer => Buffer.concat([INNER_HEADERS, datagram]);
    const datagrams = [inside(mark(0, 0)), inside(mark(0, 1)), mark(0, 2), Buffer.alloc(10), Buffer.alloc(0)];
    const report = await counted(program, [`port=${port}`, 'ports=1', 'flows=1', 'outer=1'], () =>
      sendAll(port, datagrams),
    );
    assert.equal(report.received, 2);
  });

  test('a flood goes to all of its flows, and none is counted that was not sent', () =>
    withNamespaces(namePrefix('traffic'), ['host'], async ({ host }) => {
      const stop = await startCounting({ namespace: host, address: '127.0.0.1' }, { port: 5300, ports: 2, flows: 4 });
      // Four flows to two subnets of the loopback network, so to two ports.
      const options = { port: 5300, size: 64, flows: 4, subnets: 2, seconds: 1 };
      const { sent, seconds } = await flood(host, '127.0.1.1', options);
      const { received, flows } = await stop();
      assert.ok(seconds >= 1);
      assert.equal(flows, 4);
      assert.ok(received > 0 && received <= sent);
    }));

  test('questions are answered, and their times are in order', () =>
    withNamespaces(namePrefix('traffic'), ['host'], async ({ host }) => {
      const stop = await startEcho({ namespace: host, address: '127.0.0.1' }, 5200);
      const options = { port: 5200, size: 64, seconds: 1, gap: 1000 };
      const { asked, answered, median, p99 } = await ask(host, '127.0.0.1', options);
      await stop();
      assert.ok(answered > 0 && answered <= asked);
      assert.ok(median > 0 && median <= p99);
    }));

  for (const [args, complaint] of [
    [['fly'], /expected flood, count, echo or ask/],
    [['echo', 'port'], /expected NAME=VALUE/],
    [['echo'], /port=… is missing/],
    [['echo', 'port=x'], /expected a whole number/],
    [['ask', 'to=host', 'port=1', 'size=64', 'seconds=1', 'gap=0'], /expected an IPv4 address/],
    [['flood', 'to=127.0.0.1', 'port=9', 'size=8', 'flows=1', 'subnets=1', 'seconds=1'], /size of 16 or more/],
  ] as const) {
    test(`"${args.join(' ')}" is refused in one line`, () => {
      const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
      assert.equal(status, 2);
      assert.match(stderr, complaint);
      assert.equal(stderr.trim().split('\n').length, 1);
    });
  }
});
