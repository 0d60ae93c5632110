/**
 * Streams and datagrams over a path that loses and reorders, as a router in between would, and datagrams whose checksum
 * is one that only UDP treats in its own way.
 *
 *   a ══ 192.168.9.0/24 ══ router ══ 192.168.10.0/24 ══ b eth0
 *                            ╚══ slow, 192.168.11.0/24 ══ b eth1
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import type { Namespace } from '../../../src/lab/namespace.js';
import { checksumAdd, checksumFinish } from '../../../src/packet/checksum.js';
import { PROTOCOL_UDP, writeIpv4Header } from '../../../src/packet/ipv4.js';
import { namePrefix } from '../../harness/leftovers.js';
import { withNamespaces } from '../../harness/namespaces.js';
import { DatagramSender, sendTcp, withTcpServer, withUdpListener } from '../../harness/traffic.js';
import { until } from '../../harness/until.js';
import { A_OVERLAY, A_UNDERLAY, B_OVERLAY, BareNode, configOf, withOverlay } from './overlay.js';

const skip = process.getuid?.() === 0 ? false : 'needs root for namespaces and TUN devices';

const B_BEHIND_ROUTER = '192.168.10.2';
const SLOW_ROUTE = 100;
/** {@link A_OVERLAY} and {@link B_OVERLAY} as in a header. */
const A_ADDRESS = 0x0a050100;
const B_ADDRESS = 0x0a050200;
const TCP_BYTES = 3_000_000;
const DATAGRAMS_TO_ARRIVE = 150;
/** One datagram each, in turn. */
const SIZES = [64, 64, 64, 64, 1400, 1400, 1400, 700, 20, 1444, 1445, 3000];

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

async function withRouter(purpose: string, body: (a: Namespace, router: Namespace, b: Namespace) => Promise<void>) {
  await withNamespaces(namePrefix(purpose), ['a', 'router', 'b'], async ({ a, router, b }) => {
    await a.connect('eth0', router, 'left');
    await b.connect('eth0', router, 'right');
    await b.connect('eth1', router, 'slow');
    await a.addAddress('eth0', `${A_UNDERLAY}/24`);
    await router.addAddress('left', '192.168.9.254/24');
    await router.addAddress('right', '192.168.10.254/24');
    await router.addAddress('slow', '192.168.11.254/24');
    await b.addAddress('eth0', `${B_BEHIND_ROUTER}/24`);
    await b.addAddress('eth1', '192.168.11.2/24');
    for (const scope of ['all', 'eth0', 'eth1']) await b.setSysctl(`net.ipv4.conf.${scope}.rp_filter`, 0);
    await router.setSysctl('net.ipv4.ip_forward', 1);
    await a.addRoute('default', 'via 192.168.9.254');
    await b.addRoute('default', 'via 192.168.10.254');
    const nodeA = await BareNode.start(a, configOf('a', { leases: [['10.5.2.0/24', B_BEHIND_ROUTER]] }));
    const nodeB = await BareNode.start(b, configOf('b', { externalAddress: B_BEHIND_ROUTER }));
    await body(a, router, b);
    await nodeA.end('stop');
    await nodeB.end('stop');
  });
}

/** Loses two of a hundred; with `reorders` a third of the rest takes the slow way to b. */
async function troublePath(router: Namespace, reorders: boolean): Promise<void> {
  await router.exec('nft', ['-f', '-'], {
    input: `table ip trouble {
      chain arriving { type filter hook prerouting priority -150;
        ${reorders ? 'udp dport 8285 numgen random mod 100 < 33 meta mark set 1' : ''}
      }
      chain passing { type filter hook forward priority 0;
        udp dport 8285 numgen random mod 100 < 2 drop
      }
    }
    `,
  });
  if (!reorders) return;
  await router.ip(`route replace ${B_BEHIND_ROUTER} via 192.168.11.2 dev slow table ${SLOW_ROUTE}`);
  await router.ip(`rule add fwmark 1 to ${B_BEHIND_ROUTER} lookup ${SLOW_ROUTE}`);
  await router.exec('tc', [...'qdisc add dev slow root tbf rate 20mbit burst 3k latency 100ms'.split(' ')]);
}

async function streamsArriveWhole(a: Namespace, b: Namespace): Promise<void> {
  for (const [from, to, address] of [
    [a, b, B_OVERLAY],
    [b, a, A_OVERLAY],
  ] as const) {
    await withTcpServer(to, 5001, async () => {
      const { sent, received, error } = await sendTcp(from, address, 5001, TCP_BYTES);
      assert.equal(error, undefined);
      assert.equal(received, sent);
    });
  }
}

/** Each that arrives was sent, and comes once; returns the numbers of those that arrived, in their order. */
async function datagramsArrive(from: Namespace, to: Namespace): Promise<number[]> {
  const numbers = new Map<string, number>();
  const arrived = await withUdpListener(to, 5002, async (listener) => {
    const sender = new DatagramSender(from, B_OVERLAY, 5002);
    try {
      await until('enough datagrams arrive', async () => {
        const datagrams = SIZES.map((bytes, index) => Buffer.alloc(bytes, `${numbers.size + index} `));
        for (const datagram of datagrams) numbers.set(sha256(datagram), numbers.size);
        await sender.send(...datagrams);
        return listener.records.length >= DATAGRAMS_TO_ARRIVE;
      });
    } finally {
      await sender.close();
    }
    return listener.records.map((record) => numbers.get(record.sha256));
  });
  const known = arrived.filter((number) => number !== undefined);
  assert.equal(known.length, arrived.length, 'what arrives is what was sent');
  assert.equal(new Set(known).size, known.length, 'each arrives once');
  return known;
}

for (const segmentation of ['on', 'off'] as const) {
  for (const reorders of [false, true]) {
    const what = `loses${reorders ? ' and reorders' : ''} ${segmentation === 'on' ? 'trains' : 'single datagrams'}`;
    test(`over a path that ${what}, streams are whole and datagrams untouched`, { skip }, () =>
      withRouter('lossy', async (a, router, b) => {
        for (const node of [a, b]) {
          await node.exec('ethtool', ['-K', 'eth0', 'tx-udp-segmentation', segmentation, 'gso', segmentation]);
        }
        await troublePath(router, reorders);
        await streamsArriveWhole(a, b);
        const numbers = await datagramsArrive(a, b);
        if (!reorders)
          assert.deepEqual(
            numbers,
            [...numbers].sort((one, other) => one - other),
            'in order',
          );
      }),
    );
  }
}

/** An inner UDP packet with the checksum that it has, or with the one that says that there is none. */
function innerUdp(
  source: number,
  ports: readonly [number, number],
  id: number,
  payload: Buffer,
  checksummed: boolean,
): Buffer {
  const packet = Buffer.alloc(28 + payload.length);
  writeIpv4Header(packet, 0, {
    totalBytes: packet.length,
    protocol: PROTOCOL_UDP,
    source,
    destination: B_ADDRESS,
    identification: id,
  });
  packet.writeUInt16BE(ports[0], 20);
  packet.writeUInt16BE(ports[1], 22);
  packet.writeUInt16BE(8 + payload.length, 24);
  payload.copy(packet, 28);
  // A sum of 0 is sent as 0xffff, for 0 says that there is none (RFC 768).
  if (checksummed) packet.writeUInt16BE(udpSum(packet) || 0xffff, 26);
  return packet;
}

/** The checksum of an inner UDP packet: over pseudo header, header and payload. */
function udpSum(packet: Buffer): number {
  const pseudo = Buffer.from([...packet.subarray(12, 20), 0, PROTOCOL_UDP, packet[24], packet[25]]);
  return checksumFinish(checksumAdd(packet, 20, packet.length - 20, checksumAdd(pseudo, 0, pseudo.length)));
}

/** A payload that makes the sum 0; all but its first word is of one character. */
function payloadOfSumZero(source: number, ports: readonly [number, number], bytes: number, filler: string): Buffer {
  const payload = Buffer.alloc(bytes, filler);
  payload.writeUInt16BE(0);
  payload.writeUInt16BE(udpSum(innerUdp(source, ports, 0, payload, false)));
  return payload;
}

test('datagrams whose checksum is 0 or 0xffff arrive, merged or cut or neither', { skip }, () =>
  withOverlay('fl-sums', {}, async ({ a, b, nodeA, nodeB }) => {
    await withUdpListener(b, 5002, async (listener) => {
      const overlay = new DatagramSender(a, B_OVERLAY, 5002);
      await overlay.send(Buffer.from('which port'));
      const [{ port }] = await listener.has(1);
      // By the kernel of a, which leaves the checksum to the agent.
      const sent = [...'abcdefghijklmnopqrst'].map((filler) => payloadOfSumZero(A_ADDRESS, [port, 5002], 400, filler));
      await overlay.send(...sent);
      await listener.has(1 + sent.length);
      await overlay.close();

      // From the wire: those without a checksum, those of 0xffff, and both in turns.
      assert.equal(await nodeA.end('stop'), 0);
      const wire = new DatagramSender(a, '192.168.9.2', 8285, A_UNDERLAY);
      const packets = [...'ABCDEFGHIJKLMNOPQRSTUVWX'].map((filler, index) => {
        const payload = payloadOfSumZero(A_ADDRESS, [4000, 5002], 500, filler);
        const packet = innerUdp(A_ADDRESS, [4000, 5002], index, payload, index < 8 || (index >= 16 && index % 2 === 0));
        sent.push(payload);
        return packet;
      });
      assert.deepEqual([packets[0].readUInt16BE(26), packets[8].readUInt16BE(26)], [0xffff, 0]);
      await wire.send(...packets);
      await listener.has(1 + sent.length);
      await wire.close();
      assert.deepEqual(
        listener.records.slice(1).map((record) => record.sha256),
        sent.map(sha256),
      );
      assert.deepEqual((await nodeB.status()).decap.dropped, {});
    });
  }),
);
