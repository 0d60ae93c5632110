/**
 * Real traffic over devices of the underlay that take over more or less from the kernel. What arrives is what was sent, and
 * both ends count the same. Every rung beside every other is in `ladder-matrix.test.ts`.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { OFFLOADS, type OffloadName } from '../../../src/dataplane/offloads.js';
import type { Namespace } from '../../../src/lab/namespace.js';
import { DatagramSender, sendTcp, withTcpServer, withUdpListener } from '../../harness/traffic.js';
import { A_OVERLAY, B_OVERLAY, BareNode, configOf, withOverlay, type Overlay } from './overlay.js';

const skip = process.getuid?.() === 0 ? false : 'needs root for namespaces and TUN devices';

/** What the underlay's devices take over from the kernel, as `ethtool -K` has it. */
const UNDERLAYS = {
  'a device with every offload': ['tso', 'on', 'gso', 'on', 'gro', 'on', 'tx-udp-segmentation', 'on'],
  'a device that merges but does not cut': ['tso', 'off', 'gso', 'off', 'gro', 'on', 'tx-udp-segmentation', 'off'],
  'a device without offloads': ['tso', 'off', 'gso', 'off', 'gro', 'off', 'tx-udp-segmentation', 'off'],
};

const TCP_BYTES = 8_000_000;

/** Runs of one size, single ones between them, sizes around the MTU of 1472, and some that are fragmented. */
const DATAGRAM_BYTES = [
  ...Array<number>(40).fill(64),
  1,
  64,
  0,
  1443,
  1444,
  1445,
  3000,
  ...Array<number>(30).fill(1400),
  700,
  1400,
  1400,
  1,
  1,
  1,
];

async function tcpIsWhole(from: Namespace, to: Namespace, address: string): Promise<void> {
  await withTcpServer(to, 5001, async () => {
    const { sent, received, error } = await sendTcp(from, address, 5001, TCP_BYTES);
    assert.equal(error, undefined);
    assert.equal(received, sent);
  });
}

async function datagramsAreWholeAndInOrder(from: Namespace, to: Namespace, address: string): Promise<void> {
  const datagrams = DATAGRAM_BYTES.map((bytes, index) => Buffer.alloc(bytes, `${index} `));
  await withUdpListener(to, 5002, async (listener) => {
    const sender = new DatagramSender(from, address, 5002);
    try {
      // A few at a time, for the receiving socket's buffer is the kernel's default.
      for (let at = 0; at < datagrams.length; at += 20) {
        await sender.send(...datagrams.slice(at, at + 20));
        await listener.has(Math.min(at + 20, datagrams.length));
      }
    } finally {
      await sender.close();
    }
    assert.deepEqual(
      listener.records.map(({ sha256 }) => sha256),
      datagrams.map((datagram) => createHash('sha256').update(datagram).digest('hex')),
    );
  });
}

async function trafficIsWhole({ a, b }: Overlay, settings: readonly string[]): Promise<void> {
  for (const node of [a, b]) await node.exec('ethtool', ['-K', 'eth0', ...settings]);
  await tcpIsWhole(a, b, B_OVERLAY);
  await tcpIsWhole(b, a, A_OVERLAY);
  await datagramsAreWholeAndInOrder(a, b, B_OVERLAY);
}

const ALL = OFFLOADS.map(({ name }) => name);
const DISABLED: readonly (readonly [what: string, disabled: readonly OffloadName[]])[] = [
  ['all there is', []],
  ['no offload of UDP, as before Linux 4.18', ['udp-segment', 'udp-gro', 'tun-uso']],
  ['nothing but virtio headers', ALL.filter((name) => name !== 'tun-vnet')],
];

for (const [index, [what, disabledOffloads]] of DISABLED.entries()) {
  test(`with ${what}, streams and datagrams arrive whole and in order`, { skip }, () =>
    withOverlay(`fl-off${index}`, { disabledOffloads }, async (overlay) => {
      for (const settings of Object.values(UNDERLAYS)) await trafficIsWhole(overlay, settings);
      const { offloads, encap, decap } = await overlay.nodeA.status();
      for (const { name, state, reason, stepDowns } of offloads) {
        if (disabledOffloads.some((one) => one === name)) {
          assert.deepEqual([state, reason], ['off', 'switched off by --disable-offload'], name);
        }
        assert.equal(stepDowns, 0, name);
      }
      // The host's IPv6 looks for routers on every device.
      assert.deepEqual([{ ...encap.dropped, 'not-ipv4': 0 }, decap.dropped], [{ 'not-ipv4': 0 }, {}]);
      // What one node counts as sent is what the other counts as received, however it was cut and merged.
      const peer = await overlay.nodeB.until(({ decap: there }) => there.packets === encap.packets);
      assert.equal(peer.decap.bytes, encap.bytes);
    }),
  );
}

test('super-packets count as the packets that they are on the wire', { skip }, () =>
  withOverlay('fl-offcnt', {}, async ({ a, b, nodeA }) => {
    await tcpIsWhole(a, b, B_OVERLAY);
    const { encap } = await nodeA.status();
    // 1472 bytes hold at most 1432 of the stream, and 1420 with timestamps.
    assert.ok(encap.packets >= TCP_BYTES / 1432, `${encap.packets} packets`);
    assert.ok(encap.bytes >= TCP_BYTES + 40 * encap.packets, `${encap.bytes} bytes in ${encap.packets} packets`);
  }),
);

test('a device kept from a run with other offloads is set anew', { skip }, () =>
  withOverlay('fl-offper', { persistent: true }, async (overlay) => {
    const { b } = overlay;
    let node = overlay.nodeB;
    for (const disabledOffloads of [ALL, ['tun-tso'] as const, [], ['tun-vnet'] as const]) {
      assert.equal(await node.end('stop'), 0);
      node = await BareNode.start(b, configOf('b', { persistent: true, disabledOffloads }));
      await trafficIsWhole({ ...overlay, nodeB: node }, UNDERLAYS['a device with every offload']);
      const { stdout } = await b.exec('ethtool', ['-k', 'flannel0']);
      const segmentation = /tcp-segmentation-offload: (on|off)/.exec(stdout)?.[1];
      assert.equal(segmentation, disabledOffloads.length === 0 ? 'on' : 'off', disabledOffloads.join());
    }
  }),
);
