/** A large network: how soon the first packet is through, and what an idle daemon costs. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, describe, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { processSeconds } from '../../../bench/cpu.js';
import { Cluster, PREFIX, type ClusterNode } from '../../harness/cluster.js';
import { compileHarness, noCompiler } from '../../harness/compile.js';
import { putFarLeases } from '../../harness/many-leases.js';
import { SteadyPing } from '../../harness/ping.js';
import { untilReached } from '../../harness/pod-traffic.js';
import { until } from '../../harness/until.js';
import { residentKib } from '../../hostile/counters.js';
import { Chance } from '../../simulation/chance.js';
import { differences } from '../../storm/contents.js';
import { underStorm } from '../../storm/under-storm.js';

/** `npm run storm` does it with all that a network holds. */
const LEASES = 10_000;
const STORM = { subnets: 2000, changesPerSecond: 1000, seconds: 5 };
/** What is said of keys that are no leases, a line that there are more, and a little. */
const MAX_LINES = 40;
/** Far above what an agent takes for a while, far below what each change kept for ever would come to. */
const MEMORY_GROWTH_KIB = 96 * 1024;

describe(`${LEASES} leases`, () => {
  let cluster: Cluster;
  let node1: ClusterNode, node2: ClusterNode;
  let seed: number;

  before(async () => {
    seed = 1 + Math.floor(Math.random() * 2 ** 31);
    cluster = await Cluster.create('scale', { nodes: 2, config: { Network: '10.0.0.0/8', SubnetMin: '10.0.0.0' } });
    await putFarLeases(cluster.etcd, PREFIX, LEASES - 2);
    await cluster.startAll();
    [node1, node2] = cluster.nodes;
    await untilReached(node1.pods[0], node2.pods[0]);
  });
  after(() => cluster?.dispose());

  test('are all in the table', async () => {
    const all = async () => (await node1.running.status()).backend?.table.leases === LEASES - 1;
    await until('node1 forwards to all but its own', all);
    assert.deepEqual(await differences(node1, new Chance(seed)), []);
  });

  test('packets are through again after a start, with the device from before and without it', async (t) => {
    const [from] = node1.pods;
    const [to] = node2.pods;
    const seconds: number[] = [];
    for (let round = 0; round < 2; round++) {
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
    const before = processSeconds([pid]);
    const startedAtMs = performance.now();
    await sleep(1_000);
    const share = (100 * (processSeconds([pid]) - before)) / ((performance.now() - startedAtMs) / 1000);
    t.diagnostic(`${share.toFixed(2)} % of a core while idle, ${Math.round(residentKib(pid) / 1024)} MiB resident`);
  });

  test(
    'a storm of changes loses no packet, and the table is what etcd has after it',
    { skip: noCompiler },
    async (t) => {
      const pacedTraffic = await compileHarness('paced_traffic.cc', cluster.folder);
      const account = await underStorm(cluster, { ...STORM, seed, pacedTraffic });
      const { traffic, logged, memoryKib, storm } = account;
      const evidence = `seed ${seed}: ${JSON.stringify({ ...account, logged: logged.slice(-5) })}`;
      t.diagnostic(evidence);
      assert.deepEqual(account.differences, [], evidence);
      assert.ok(storm.expiring > 0, evidence);
      assert.deepEqual([traffic.there.lost, traffic.back.lost], [0, 0], evidence);
      assert.deepEqual([traffic.there.outOfOrder, traffic.back.outOfOrder], [0, 0], evidence);
      assert.ok(traffic.tcp.intact, evidence);
      assert.ok(logged.length <= MAX_LINES, evidence);
      assert.ok(memoryKib.end - memoryKib.start < MEMORY_GROWTH_KIB, evidence);
    },
  );
});

/** The state of each thread, proc(5): S sleeps, R runs or would like to. */
function threadStates(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).map(
    (thread) => readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8').split(') ')[1][0],
  );
}
