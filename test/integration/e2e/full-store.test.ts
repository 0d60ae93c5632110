/** An etcd that has grown to its quota: what whole agents make of it, and of room in it again. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Cluster, PREFIX, type ClusterNode, type Pod } from '../../harness/cluster.js';
import type { CheckResult } from '../../../src/debug/doctor/check.js';
import { FLANNELCTL } from '../../harness/daemon.js';
import { fill, makeRoom, SMALL_QUOTA } from '../../harness/full-etcd.js';
import { ping, SteadyPing } from '../../harness/ping.js';
import { httpGet } from '../../harness/traffic.js';
import { until } from '../../harness/until.js';

const FLAGS = ['--healthz-port=8080'];
const FULL = /its database is full.*"etcdctl alarm disarm"/;

describe('with an etcd that takes no writes', () => {
  let cluster: Cluster;
  let node1: ClusterNode, node2: ClusterNode, newcomer: ClusterNode;
  let pod1: Pod, pod2: Pod;

  before(async () => {
    cluster = await Cluster.create('full', { nodes: 3, etcd: { extraArguments: SMALL_QUOTA } });
    [node1, node2, newcomer] = cluster.nodes;
    await Promise.all([node1, node2].map((node) => node.start(FLAGS)));
    pod1 = await node1.addPod();
    pod2 = await node2.addPod();
    await untilReached();
  });
  after(() => cluster?.dispose());

  const untilReached = (): Promise<unknown> =>
    until('pod1 reaches pod2', async () => (await ping(pod1.namespace, pod2.address, { count: 1 })).received === 1, {
      evidence: () => node1.running.evidence,
    });

  const readyz = (node: ClusterNode) => httpGet(node.namespace, 'http://127.0.0.1:8080/readyz');

  const untilReady = (node: ClusterNode): Promise<unknown> =>
    until(`${node.name} is ready`, async () => (await readyz(node)).status === 200, {
      evidence: () => node.running.evidence,
    });

  const untilUnready = (node: ClusterNode): Promise<unknown> =>
    until(
      `${node.name} says under /readyz why it is not ready`,
      async () => {
        const { status, body = '' } = await readyz(node);
        return status === 503 && FULL.test(body);
      },
      { evidence: () => node.running.evidence },
    );

  /** What the doctor says of the agent, and of etcd. */
  async function diagnosed(node: ClusterNode): Promise<Record<string, CheckResult | undefined>> {
    const flags = [`--socket=${node.running.controlSocket}`, `--etcd-endpoints=${cluster.endpoint}`];
    const { stdout } = await node.namespace.exec(FLANNELCTL, ['doctor', '--json', ...flags], { allowFailure: true });
    const { checks } = JSON.parse(stdout) as { checks: CheckResult[] };
    return Object.fromEntries(checks.map((check) => [check.id, check]));
  }

  test('agents go on with what they have, say what they cannot get, and have it when there is room', async () => {
    const [key] = (await cluster.storedLeases()).flatMap(({ key, value }) =>
      value.includes(node1.address) ? [key] : [],
    );
    const steady = [
      await SteadyPing.start(pod1.namespace, pod2.address),
      await SteadyPing.start(pod2.namespace, pod1.address),
    ];
    await fill(cluster.etcd);
    newcomer.launch(FLAGS);
    await untilUnready(newcomer);
    assert.equal((await newcomer.running.status()).state, 'lease');
    assert.ok(newcomer.running.said(FULL).length > 0, newcomer.running.evidence);

    const { agent, etcd } = await diagnosed(node1);
    assert.equal(agent?.status, 'ok', 'who has a lease needs no write');
    assert.equal(etcd?.status, 'warn');
    assert.match(etcd?.remedy ?? '', /alarm/);
    for (const one of steady) {
      const { sent, received } = await one.stop();
      assert.equal(received, sent);
    }

    await cluster.etcd.delete(key);
    await untilUnready(node1);
    const { state, reason, store } = await node1.running.status();
    assert.equal(state, 'lease');
    assert.match(reason ?? '', /^the lease of 10\.5\..* is gone from the store/);
    assert.match(store.lastError ?? '', FULL);
    assert.equal(node1.running.said(/is gone from the store.*database is full/).length, 1, node1.running.evidence);
    const { agent: now } = await diagnosed(node1);
    assert.equal(now?.status, 'fail');
    assert.match(now?.summary ?? '', FULL);

    await makeRoom(cluster.etcd);
    for (const node of cluster.nodes) await untilReady(node);
    assert.match((await cluster.etcd.get(key)) ?? '', new RegExp(node1.address));
    assert.equal(
      node1.running.subnetEnv.FLANNEL_SUBNET.replace(/1\/24$/, '0-24'),
      key.replace(`${PREFIX}/subnets/`, ''),
    );
    await untilReached();
    assert.equal((await diagnosed(node1)).etcd?.status, 'ok');
  });
});
