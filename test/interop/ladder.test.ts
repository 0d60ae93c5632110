/** Every rung of the offload ladder beside a real flanneld, which has none of it. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Cluster, type ClusterNode } from '../harness/cluster.js';
import { findFlannel } from '../harness/flannel-peer.js';
import { assertTrafficArrives, untilReached } from '../harness/pod-traffic.js';
import { RUNG_SETS } from '../harness/rungs.js';

const peer = await findFlannel();
const skip = peer.program === undefined ? peer.why : false;

describe('the offload ladder beside a real flannel', { skip }, () => {
  let cluster: Cluster;
  let theirs: ClusterNode, ours: ClusterNode;

  before(async () => {
    cluster = await Cluster.create('ladder', { nodes: 2 });
    [theirs, ours] = cluster.nodes;
    await Promise.all([theirs.start([], { program: peer.program }), ours.start()]);
    for (const node of cluster.nodes) await node.addPod();
  });
  after(() => cluster?.dispose());

  for (const { name, disabledOffloads, workers } of RUNG_SETS) {
    test(`${name}: streams, datagrams and pings pass both ways`, async () => {
      await ours.running.stop();
      const disabled = disabledOffloads.length === 0 ? [] : [`--disable-offload=${disabledOffloads.join()}`];
      await ours.start([`--workers=${workers}`, ...disabled]);
      await untilReached(ours.pods[0], theirs.pods[0]);
      await assertTrafficArrives(ours.pods[0], theirs.pods[0]);
      const { backend } = await ours.running.status();
      for (const { name: offload, state, stepDowns } of backend?.offloads ?? []) {
        if (disabledOffloads.some((one) => one === offload)) assert.equal(state, 'off', offload);
        assert.equal(stepDowns, 0, offload);
      }
    });
  }
});
