/**
 * Every rung of the ladder beside every other, with real traffic both ways. One pair of namespaces and one set of
 * traffic programs serve all pairs; only the agents are started anew.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import type { Namespace } from '../../../src/lab/namespace.js';
import { namePrefix } from '../../harness/leftovers.js';
import { withNamespaces } from '../../harness/namespaces.js';
import { ping } from '../../harness/ping.js';
import { RUNG_SETS, type RungSet } from '../../harness/rungs.js';
import {
  DatagramSender,
  listenUdp,
  sendTcp,
  withTcpServer,
  type Listener,
  type UdpRecord,
} from '../../harness/traffic.js';
import { A_OVERLAY, A_UNDERLAY, B_OVERLAY, B_UNDERLAY, BareNode, configOf } from './overlay.js';

const skip = process.getuid?.() === 0 ? false : 'needs root for namespaces and TUN devices';

const TCP_BYTES = 2_000_000;

/** Runs of one size, singles between them, sizes around what one packet of 1472 bytes holds (1444), and fragments. */
const DATAGRAMS = [
  ...Array<number>(12).fill(64),
  ...[1, 0, 64, 1443, 1444, 1445, 3000],
  ...Array<number>(8).fill(1400),
  ...[700, 1400, 1, 1],
].map((bytes, index) => Buffer.alloc(bytes, `${index} `));

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const HASHES = DATAGRAMS.map(sha256);

/** One machine of the pair, with the programs that outlive its agents. */
interface End {
  readonly namespace: Namespace;
  readonly overlayAddress: string;
  readonly listener: Listener<UdpRecord>;
  readonly sender: DatagramSender;
}

const settingsOf = ({ disabledOffloads, workers }: RungSet) => ({ disabledOffloads, workers });

async function datagramsArriveInOrder(from: End, to: End): Promise<void> {
  const before = to.listener.records.length;
  await from.sender.send(...DATAGRAMS);
  const records = await to.listener.has(before + DATAGRAMS.length);
  assert.deepEqual(
    records.slice(before).map((record) => record.sha256),
    HASHES,
  );
}

async function streamArrivesWhole(from: End, to: End): Promise<void> {
  const { sent, received, error } = await sendTcp(from.namespace, to.overlayAddress, 5001, TCP_BYTES);
  assert.equal(error, undefined);
  assert.equal(received, sent);
}

async function trafficArrives(a: End, b: End): Promise<void> {
  // 1472 bytes, the interface's MTU, unfragmented.
  const { sent, received, output } = await ping(a.namespace, b.overlayAddress, {
    payloadBytes: 1472 - 28,
    dontFragment: true,
    waitSeconds: 10,
  });
  assert.equal(received, sent, output);
  await Promise.all([datagramsArriveInOrder(a, b), datagramsArriveInOrder(b, a)]);
  await Promise.all([streamArrivesWhole(a, b), streamArrivesWhole(b, a)]);
}

async function assertNothingWasLost(node: BareNode, { disabledOffloads, workers }: RungSet): Promise<void> {
  const { offloads, encap, decap, workers: running } = await node.status();
  assert.equal(running.length, 2 * workers);
  for (const { name, state, stepDowns } of offloads) {
    if (disabledOffloads.some((one) => one === name)) assert.equal(state, 'off', name);
    assert.equal(stepDowns, 0, name);
  }
  // The host's IPv6 looks for routers on every device.
  assert.deepEqual([{ ...encap.dropped, 'not-ipv4': 0 }, decap.dropped], [{ 'not-ipv4': 0 }, {}]);
}

test('every rung carries streams, datagrams and pings to and from every other', { skip }, (context) =>
  withNamespaces(namePrefix('matrix'), ['a', 'b'], async ({ a, b }) => {
    await a.connect('eth0', b, 'eth0');
    await a.addAddress('eth0', `${A_UNDERLAY}/24`);
    await b.addAddress('eth0', `${B_UNDERLAY}/24`);
    const endOf = async (namespace: Namespace, overlayAddress: string, peerAddress: string): Promise<End> => ({
      namespace,
      overlayAddress,
      listener: await listenUdp(namespace, 5002),
      sender: new DatagramSender(namespace, peerAddress, 5002),
    });
    const endA = await endOf(a, A_OVERLAY, B_OVERLAY);
    const endB = await endOf(b, B_OVERLAY, A_OVERLAY);
    await withTcpServer(a, 5001, () =>
      withTcpServer(b, 5001, async () => {
        // Traffic goes both ways, so each pair is there once.
        for (const [index, ofA] of RUNG_SETS.entries()) {
          const nodeA = await BareNode.start(a, configOf('a', settingsOf(ofA)));
          for (const ofB of RUNG_SETS.slice(index)) {
            await context.test(`${ofA.name}, beside ${ofB.name}`, async () => {
              const nodeB = await BareNode.start(b, configOf('b', settingsOf(ofB)));
              try {
                await trafficArrives(endA, endB);
                await assertNothingWasLost(nodeA, ofA);
                await assertNothingWasLost(nodeB, ofB);
              } finally {
                await nodeB.end('stop');
              }
            });
          }
          await nodeA.end('stop');
        }
      }),
    );
    for (const { listener, sender } of [endA, endB]) {
      await sender.close();
      await listener.stop();
    }
  }),
);
