/**
 * A partition: node1 is cut off from etcd until its lease is gone and node3 has been given its subnet.
 *
 *   node1 ──┬── node2 ──┬── node3      pod1a and pod2a on cni0 of node1 and node2
 *           └── etcd ───┘              node1 → etcd: rejected by a rule on node1
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Cluster, PREFIX, type ClusterNode, type Pod } from '../../harness/cluster.js';
import { ping } from '../../harness/ping.js';
import { until } from '../../harness/until.js';

const TO_ETCD = 'OUTPUT -p tcp --dport 2379 -j REJECT --reject-with tcp-reset'.split(' ');

describe('a node whose subnet went to another while it was cut off', () => {
  let cluster: Cluster;
  let node1: ClusterNode, node2: ClusterNode, node3: ClusterNode;
  let pod1: Pod, pod2: Pod;

  before(async () => {
    cluster = await Cluster.create('lostnet', { nodes: 3 });
    [node1, node2, node3] = cluster.nodes;
    for (const node of [node1, node2]) await node.start();
    pod1 = await node1.addPod();
    pod2 = await node2.addPod();
  });
  after(() => cluster?.dispose());

  const reach = (what: string, from: Pod, to: Pod): Promise<unknown> =>
    until(what, async () => (await ping(from.namespace, to.address, { count: 1, waitSeconds: 1 })).received === 1, {
      evidence: () => node1.running.evidence,
    });

  test('goes on while it is cut off, then takes another subnet without an exit, and its new pods are reached', async () => {
    await reach('pod1 reaches pod2', pod1, pod2);
    const daemon = node1.running;
    const { FLANNEL_SUBNET: gateway } = daemon.subnetEnv;
    const subnet = gateway.replace(/\.1\//, '.0/');
    const key = `${PREFIX}/subnets/${subnet.replace('/', '-')}`;

    await node1.namespace.exec('iptables', ['-I', ...TO_ETCD]);
    // As at its expiry: the etcd lease ends, and the key with it. A node that does not know is not to notice by traffic.
    const held = (await cluster.storedLeases()).find((stored) => stored.key === key);
    assert.ok(held !== undefined);
    await reach('pods reach each other while node1 is cut off', pod1, pod2);
    await until('node1 notices', async () => {
      await cluster.putLease('10.5.250.0/24', '192.168.64.250');
      return !(await daemon.status()).store.healthy;
    });
    await cluster.etcd.call('/v3/lease/revoke', { ID: held.lease });
    await cluster.etcd.delete(`${PREFIX}/subnets/10.5.250.0-24`);
    assert.equal(await cluster.etcd.get(key), undefined);

    // node3 asks for the subnet that it believes to have had, and gets it.
    writeFileSync(join(node3.folder, 'subnet.env'), `FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=${gateway}\n`);
    await node3.start();
    assert.equal(node3.running.subnetEnv.FLANNEL_SUBNET, gateway);
    const theirs = await cluster.etcd.get(key);
    assert.ok(theirs?.includes(node3.address));

    await node1.namespace.exec('iptables', ['-D', ...TO_ETCD]);
    await until('node1 has another subnet', () => daemon.subnetEnv.FLANNEL_SUBNET !== gateway, {
      evidence: () => daemon.evidence,
    });
    await until('node1 is ready again', async () => (await daemon.status()).state === 'ready', {
      evidence: () => daemon.evidence,
    });
    assert.ok(daemon.running, daemon.evidence);
    assert.equal(await cluster.etcd.get(key), theirs, 'nobody wrote over it');
    const { FLANNEL_SUBNET: next } = daemon.subnetEnv;
    assert.deepEqual(await node1.addressesOf('flannel0'), [next.replace(/\.1\/24$/, '.0/32')]);
    assert.equal(daemon.said(/subnet .* is lost: .* belongs to /).length > 0, true, daemon.evidence);
    assert.deepEqual(
      (await daemon.status()).concerns?.map(({ id }) => id),
      ['lost-subnet'],
    );

    const fresh = await node1.addPod(daemon, 'cni1');
    await reach('a new pod reaches node2', fresh, pod2);
    await reach('and node2 reaches it', pod2, fresh);
    // What still has the old addresses does not get through, and is counted where it is refused.
    await node1.namespace.ip('link delete cni1');
    await until('node2 refuses the old addresses', async () => {
      await ping(pod1.namespace, pod2.address, { count: 1, waitSeconds: 0.3 });
      return (await node2.running.drops('decap', 'spoofed-source')) > 0;
    });
  });
});
