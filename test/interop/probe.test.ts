/** `flannelctl probe` beside a real flannel, which knows nothing of it, cannot report, and is not to be disturbed. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { OWN_FLANNELCTL } from '../../src/lab/daemon.js';
import type { MeshProbeAnswer, PacketProbeAnswer } from '../../src/observe/probe-protocol.js';
import { Cluster, PREFIX, type ClusterNode } from '../harness/cluster.js';
import { findFlannel } from '../harness/flannel-peer.js';
import { until } from '../harness/until.js';

const peer = await findFlannel();
const skip = peer.program === undefined ? peer.why : false;
const WITHIN_MS = 90_000;

describe('probe beside a real flannel', { skip }, () => {
  const program = peer.program as string;
  let cluster: Cluster;
  let theirs: ClusterNode, ours: ClusterNode, third: ClusterNode;

  before(async () => {
    cluster = await Cluster.create('probing', { nodes: 3 });
    [theirs, ours, third] = cluster.nodes;
    await Promise.all([theirs.start([], { program }), ours.start(), third.start()]);
    for (const node of cluster.nodes) await node.addPod();
  });
  after(() => cluster?.dispose());

  async function flannelctl<Answer>(...args: string[]): Promise<Answer> {
    const socket = `--socket=${ours.running.controlSocket}`;
    const command = [OWN_FLANNELCTL, 'probe', '--json', socket, ...args];
    const { stdout, stderr } = await ours.namespace.exec(process.execPath, command, { allowFailure: true });
    assert.equal(stderr, '');
    return JSON.parse(stdout) as Answer;
  }

  async function finds(
    what: string,
    args: readonly string[],
    right: (answer: PacketProbeAnswer) => boolean,
  ): Promise<PacketProbeAnswer> {
    let last: PacketProbeAnswer | undefined;
    return until(
      what,
      async () => {
        last = await flannelctl<PacketProbeAnswer>(...args);
        return right(last) ? last : undefined;
      },
      { withinMs: WITHIN_MS, evidence: () => JSON.stringify(last, null, 1) },
    );
  }

  test('a packet to its pod is known by its answer, and that node is said not to report', async () => {
    const found = await finds('the pod of flannel answers', [theirs.pods[0].address], ({ reached }) => reached);
    const points = found.hops.map(({ node, point }) => `${node} ${point}`);
    assert.deepEqual(points, [
      `${ours.address} sent`,
      `${ours.address} encapsulated`,
      `${theirs.address} unreported`,
      `${ours.address} reply-received`,
      `${ours.address} reply-delivered`,
    ]);
    assert.match(found.hops[2].detail, /does not report: a flannel/);
    await finds('the pod of ours', [third.pods[0].address], ({ hops }) => hops.length === 7);
  });

  test('of a pod that is not there its node is named', async () => {
    const address = theirs.pods[0].address.replace(/\.\d+$/, '.99');
    const found = await finds('no such pod', [address], ({ reached }) => !reached);
    assert.match(
      found.likelyCause ?? '',
      new RegExp(`there is no ${address}|behind ${theirs.address}: the tunnel to it works`),
    );
  });

  test('a mesh has the ways to it, and no row of it', async () => {
    let last: MeshProbeAnswer | undefined;
    await until(
      'the mesh',
      async () => {
        last = await flannelctl<MeshProbeAnswer>('--mesh');
        const row = (node: ClusterNode) => last?.nodes.find((one) => one.node === node.address);
        return last.reached && row(theirs)?.reports === false && row(third)?.peers.length === 2;
      },
      { withinMs: WITHIN_MS, evidence: () => JSON.stringify(last, null, 1) },
    );
    assert.match(last?.notes.join() ?? '', new RegExp(`no row of ${theirs.address}`));
  });

  test('it is not disturbed: by probes, by garbage beside its keys, in its leases or its log', async () => {
    await cluster.etcd.put(`${PREFIX}/probes/calls/nonsense`, 'x');
    await cluster.etcd.put(`${PREFIX}/probes/elsewhere`, '{');
    await finds('one more', [theirs.pods[0].address], ({ reached }) => reached);
    assert.ok(theirs.running.running, theirs.running.evidence);
    assert.doesNotMatch(theirs.running.output, /probes|panic/);
    assert.equal((await cluster.storedLeases()).length, 3);
  });
});
