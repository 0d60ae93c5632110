/** A large network: how soon the first packet is through, and what an idle daemon costs. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, describe, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster, PREFIX, type ClusterNode } from '../../harness/cluster.js';
import { ping, SteadyPing } from '../../harness/ping.js';
import { until } from '../../harness/until.js';

const LEASES = 10_000;

describe(`${LEASES} leases`, () => {
  let cluster: Cluster;
  let node1: ClusterNode, node2: ClusterNode;

  before(async () => {
    cluster = await Cluster.create('scale', { nodes: 2, config: { Network: '10.0.0.0/8' } });
    await putLeases(cluster, LEASES - 2);
    await cluster.startAll();
    [node1, node2] = cluster.nodes;
    await until('the pods reach each other', async () => {
      return (await ping(node1.pods[0].namespace, node2.pods[0].address, { count: 1, waitSeconds: 1 })).received === 1;
    });
  });
  after(() => cluster?.dispose());

  test('are all in the table', async () => {
    await until('node1 knows every lease', async () => (await node1.running.ask('/v1/leases')).length === LEASES);
    const { backend } = await node1.running.status();
    assert.equal(backend?.table.leases, LEASES - 1, 'all but the own one are forwarded to');
  });

  test('packets are through again after a start, with the device from before and without it', async (t) => {
    const [from] = node1.pods;
    const [to] = node2.pods;
    const seconds: number[] = [];
    for (let round = 0; round < 3; round++) {
      await node1.running.stop();
      // Once as after a boot: nothing is there from the run before.
      if (round === 0) await node1.namespace.ip('link del flannel0');
      const startedAtMs = performance.now();
      const starting = node1.start();
      const steady = await SteadyPing.start(from.namespace, to.address, { intervalSeconds: 0.01, waitSeconds: 1 });
      seconds.push((performance.now() - startedAtMs) / 1000);
      await steady.stop();
      await starting;
    }
    t.diagnostic(`first packet after ${seconds.map((value) => value.toFixed(2)).join(', ')} s`);
  });

  test('an idle daemon sleeps', async (t: TestContext) => {
    const { pid } = node1.running;
    await until('all of its threads are asleep', () =>
      Promise.resolve(threadStates(pid).every((state) => state === 'S')),
    );
    const before = cpuSeconds(pid);
    const startedAtMs = performance.now();
    await sleep(5_000);
    const share = (100 * (cpuSeconds(pid) - before)) / ((performance.now() - startedAtMs) / 1000);
    t.diagnostic(`${share.toFixed(2)} % of a core while idle, ${residentMegabytes(pid)} MB resident`);
  });
});

/** Writes leases of nodes that are not there, a hundred a request. */
async function putLeases(cluster: Cluster, count: number): Promise<void> {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const { ID: lease } = await cluster.etcd.call('/v3/lease/grant', { TTL: 86_400 });
  const puts = Array.from({ length: count }, (_, index) => {
    const subnet = `10.${1 + (index >> 8)}.${index & 255}.0-24`;
    const value = JSON.stringify({
      PublicIP: `172.${16 + (index >> 12)}.${(index >> 4) & 255}.${1 + (index & 15)}`,
      PublicIPv6: null,
    });
    return { requestPut: { key: base64(`${PREFIX}/subnets/${subnet}`), value: base64(value), lease } };
  });
  for (let at = 0; at < puts.length; at += 100) {
    await cluster.etcd.call('/v3/kv/txn', { success: puts.slice(at, at + 100) });
  }
}

/** The state of each thread, proc(5): S sleeps, R runs or would like to. */
function threadStates(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).map(
    (thread) => readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8').split(') ')[1][0],
  );
}

/** User and system time of all threads, proc(5). */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function residentMegabytes(pid: number): number {
  return Math.round(Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024);
}
