/** Pods behind devices that take over nothing, or only some of it, as drivers and bridges do. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Namespace } from '../../../src/lab/namespace.js';
import { Cluster } from '../../harness/cluster.js';
import { assertTrafficArrives, untilReached } from '../../harness/pod-traffic.js';

/** What `ethtool -K` switches, and what is on again after it. */
const FEATURES = ['tx', 'tso', 'gso', 'gro', 'tx-udp-segmentation'];
const MODES: readonly (readonly string[])[] = [
  ['tso'],
  ['tx-udp-segmentation'],
  ['gro'],
  ['tso', 'gso', 'tx-udp-segmentation'],
  FEATURES,
];

const skip = process.getuid?.() === 0 ? false : 'needs root for namespaces and TUN devices';

describe('pods behind devices without offloads', { skip }, () => {
  let cluster: Cluster;
  let devices: Record<string, readonly (readonly [Namespace, string])[]>;

  before(async () => {
    cluster = await Cluster.create('veth', { nodes: 2 });
    await cluster.startAll();
    const { nodes, pods } = cluster;
    devices = {
      'the underlay': nodes.map(({ namespace }) => [namespace, 'eth0']),
      'the bridges': nodes.map(({ namespace }) => [namespace, 'cni0']),
      'the pods': [
        ...pods.map(({ namespace }) => [namespace, 'eth0'] as const),
        ...nodes.map(({ namespace }) => [namespace, 'veth1'] as const),
      ],
    };
    await untilReached(pods[0], pods[1]);
  });
  after(() => cluster?.dispose());

  const set = async (where: string, features: readonly string[], state: 'on' | 'off'): Promise<void> => {
    for (const [namespace, device] of devices[where]) {
      // A bridge has not all of them.
      for (const feature of features) {
        await namespace.exec('ethtool', ['-K', device, feature, state], { allowFailure: true });
      }
    }
  };

  for (const where of ['the underlay', 'the bridges', 'the pods']) {
    for (const off of MODES) {
      test(`${where} without ${off.join(', ')}: streams, datagrams and pings are whole`, async () => {
        await set(where, off, 'off');
        try {
          await assertTrafficArrives(cluster.pods[0], cluster.pods[1]);
        } finally {
          await set(where, FEATURES, 'on');
        }
      });
    }
  }

  test('nothing was dropped, and nothing given up for good', async () => {
    for (const { running } of cluster.nodes) {
      const { backend } = await running.status();
      assert.ok(backend);
      assert.deepEqual([{ ...backend.encap.dropped, 'not-ipv4': 0 }, backend.decap.dropped], [{ 'not-ipv4': 0 }, {}]);
    }
  });
});
