/** Traffic between pods that a test of offloads holds against what was sent. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { Pod } from './cluster.js';
import { ping } from './ping.js';
import { DatagramSender, sendTcp, withTcpServer, withUdpListener } from './traffic.js';
import { until } from './until.js';

/** Runs of one size, singles between them, sizes around what one packet of 1472 bytes holds (1444), and fragments. */
const SIZES = [...Array<number>(12).fill(64), 1, 0, 1443, 1444, 1445, 3000, ...Array<number>(8).fill(1400), 700, 1];

/** Waits until one pod reaches the other, as after the start of an agent. */
export async function untilReached(from: Pod, to: Pod): Promise<void> {
  await until(`${from.name} reaches ${to.name}`, async () => {
    const { received } = await ping(from.namespace, to.address, { count: 1, waitSeconds: 1 });
    return received === 1;
  });
}

/** A TCP stream arrives whole. */
export async function assertStreamArrives(from: Pod, to: Pod, bytes = 4_000_000): Promise<void> {
  await withTcpServer(to.namespace, 5001, async () => {
    const { sent, received, error } = await sendTcp(from.namespace, to.address, 5001, bytes);
    assert.equal(error, undefined);
    assert.equal(received, sent);
  });
}

/** Datagrams of mixed sizes arrive, each whole, in order. */
export async function assertDatagramsArrive(from: Pod, to: Pod): Promise<void> {
  const datagrams = SIZES.map((bytes, index) => Buffer.alloc(bytes, `${index} `));
  await withUdpListener(to.namespace, 5002, async (listener) => {
    const sender = new DatagramSender(from.namespace, to.address, 5002);
    try {
      await sender.send(...datagrams);
      await listener.has(datagrams.length);
    } finally {
      await sender.close();
    }
    assert.deepEqual(
      listener.records.map(({ sha256 }) => sha256),
      datagrams.map((datagram) => createHash('sha256').update(datagram).digest('hex')),
    );
  });
}

/** Pings of a full packet, datagrams and streams, both ways. */
export async function assertTrafficArrives(one: Pod, other: Pod): Promise<void> {
  const { sent, received, output } = await ping(one.namespace, other.address, {
    payloadBytes: 1472 - 28,
    dontFragment: true,
    waitSeconds: 10,
  });
  assert.equal(received, sent, output);
  await Promise.all([assertDatagramsArrive(one, other), assertDatagramsArrive(other, one)]);
  await Promise.all([assertStreamArrives(one, other), assertStreamArrives(other, one)]);
}
