/**
 * Hostile packets by the hundred thousand, from everywhere (`npm run hostile` sends any number), and leases that would make
 * packets go round.
 *
 * Runs alone: it takes all processors, and others would lose packets by it.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { noCompiler } from '../../harness/compile.js';
import { Cluster, PREFIX, type ClusterNode, type Pod } from '../../harness/cluster.js';
import { ping } from '../../harness/ping.js';
import { until } from '../../harness/until.js';
import { runAssault } from '../../hostile/assault.js';

const PACKETS = 150_000;
/** Far above what an agent takes for a while, far below what one packet in ten kept for ever would come to. */
const MEMORY_GROWTH_KIB = 64 * 1024;
/** A line for each stranger, of which 128 are named, one for all others, and few about anything else. */
const MAX_LINES = 140;

test(
  'every hostile packet is accounted for, and harms neither agent nor honest traffic',
  { skip: noCompiler },
  async (context) => {
    const seed = 1 + Math.floor(Math.random() * 2 ** 31);
    context.diagnostic(`seed ${seed}`);
    const { sent, counts, underlayMissing, tunMissing, after, memoryKib, logged, honest } = await runAssault({
      packets: PACKETS,
      seed,
      say: (line) => context.diagnostic(line),
    });
    const evidence = JSON.stringify({ counts, honest, memoryKib, logged: logged.slice(-5) });
    const all = sent.flatMap(({ byKind }) => Object.values(byKind)).reduce((sum, some) => sum + some, 0);
    // A device takes no empty packet.
    assert.ok(all > 0.98 * PACKETS && all <= PACKETS, `${all} were sent`);
    assert.equal(underlayMissing, 0, evidence);
    assert.equal(tunMissing, 0, evidence);
    for (const reason of [
      'not-ipv4',
      'truncated',
      'ttl-exceeded',
      'unknown-sender',
      'spoofed-source',
      'foreign-destination',
    ]) {
      assert.ok(counts.decap.dropped[reason] > 0, `${reason}: ${evidence}`);
    }
    for (const reason of ['not-ipv4', 'truncated', 'ttl-exceeded', 'outside-network']) {
      assert.ok(counts.encap.dropped[reason] > 0, `${reason}: ${evidence}`);
    }
    assert.equal(after.received, after.sent, evidence);
    // Queues of the kernel are full at times; that is counted above.
    assert.ok(honest.received > 0, evidence);
    assert.ok(memoryKib.end - memoryKib.start < MEMORY_GROWTH_KIB, evidence);
    assert.ok(logged.length <= MAX_LINES, `${logged.length} lines: ${evidence}`);
  },
);

describe('leases that would make packets go round', () => {
  let cluster: Cluster;
  let node1: ClusterNode, node2: ClusterNode;
  let pod1: Pod;

  before(async () => {
    cluster = await Cluster.create('loops', { nodes: 2 });
    await cluster.startAll();
    [node1, node2] = cluster.nodes;
    [pod1] = cluster.pods;
  });
  after(() => cluster?.dispose());

  const known = (node: ClusterNode, subnet: string): Promise<boolean> =>
    until(
      `${node.name} knows ${subnet}`,
      async () => (await node.running.ask('/v1/leases')).some((lease) => lease.subnet === subnet),
      { evidence: () => node.running.evidence },
    );

  test('a subnet that each of two nodes believes to be with the other: its packets end at the first', async () => {
    // node2 holds no such subnet, so that what comes for it would have to go back.
    await cluster.putLease('10.5.220.0/24', node2.address);
    await known(node1, '10.5.220.0/24');
    const before = await node2.running.drops('decap', 'foreign-destination');
    const sentBack = (await node2.running.status()).backend?.encap.packets;
    assert.equal((await ping(pod1.namespace, '10.5.220.9', { count: 3, waitSeconds: 0.5 })).received, 0);
    assert.equal(await node2.running.drops('decap', 'foreign-destination'), before + 3);
    assert.equal((await node2.running.status()).backend?.encap.packets, sentBack);
    await node2.running.saying(/lease of 10\.5\.220\.0\/24 names this node's own address/);
    await cluster.etcd.delete(`${PREFIX}/subnets/10.5.220.0-24`);
  });

  test('a lease whose public IP lies inside the Network is not forwarded to, and the log says why', async () => {
    await cluster.putLease('10.5.221.0/24', '10.5.221.9');
    await known(node1, '10.5.221.0/24');
    await node1.running.saying(/lease of 10\.5\.221\.0\/24 names 10\.5\.221\.9, which lies inside the Network/);
    const before = await node1.running.drops('encap', 'no-lease');
    const { received, output } = await ping(pod1.namespace, '10.5.221.1', { count: 3 });
    assert.equal(received, 0);
    assert.match(output, /Net Unreachable/);
    assert.equal(await node1.running.drops('encap', 'no-lease'), before + 3);
    await cluster.etcd.delete(`${PREFIX}/subnets/10.5.221.0-24`);
  });
});
