/**
 * That no restart costs a packet: 1,000 datagrams a second each way and a TCP stream between two pods, while the agent of
 * one of their nodes makes room for the next. The service manager is a stand-in that keeps systemd's protocol.
 *
 * Runs alone: the kernel's queues hold for so long as a start takes, and no longer.
 */
import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { CAPABILITIES } from '../../../src/flanneld/capabilities.js';
import { ControlClient } from '../../../src/flannelctl/control-client.js';
import { Cluster } from '../../harness/cluster.js';
import { noCompiler } from '../../harness/compile.js';
import { recordingLoads, WORKER_RUNS } from '../../harness/load-record.js';
import type { TrafficAccount } from '../../harness/paced-traffic.js';
import { untilReached } from '../../harness/pod-traffic.js';
import { threadRights } from '../../harness/process-status.js';
import {
  compileRestartPrograms,
  failWorkers,
  underServiceManager,
  underTraffic,
  withWorkerFaults,
  type RestartPrograms,
} from '../../harness/restarts.js';
import { capabilitiesOfUnit } from '../../harness/unit-launcher.js';

/**
 * What an agent that is killed, or a worker that fails, may have in its hands each way, on a machine that is so busy that a
 * batch is what has come in a quarter of a second; elsewhere a handful.
 */
const IN_HAND = 300;

describe('under traffic', { skip: noCompiler }, () => {
  let cluster: Cluster;
  let programs: RestartPrograms;

  before(async () => {
    cluster = await Cluster.create('loss', { nodes: 2 });
    await cluster.startAll();
    programs = await compileRestartPrograms(cluster.folder);
  });
  after(() => cluster?.dispose());

  function assertOrderAndStream(account: TrafficAccount): void {
    const { there, back, tcp } = account;
    assert.deepEqual([there.outOfOrder, there.duplicates, back.outOfOrder, back.duplicates], [0, 0, 0, 0]);
    assert.ok(there.sent > 2000 && back.sent > 2000 && tcp.bytes > 1_000_000, JSON.stringify(account));
    assert.ok(tcp.intact, tcp.trouble);
  }

  test('a restart by a service manager that keeps the descriptors loses nothing', async () => {
    await underServiceManager(cluster, programs, async (manager) => {
      assert.equal(await manager.tell('store', /^store/), 'store tun-0 udp-0');
      const account = await underTraffic(cluster, programs, () => manager.untilReady('restart'));
      assert.deepEqual([account.there.lost, account.back.lost], [0, 0], manager.log);
      assertOrderAndStream(account);
      assert.ok(manager.events.includes('ended 0'));
      // The next one has them from the store as well.
      assert.equal(await manager.tell('store', /^store/), 'store tun-0 udp-0');
    });
  });

  test('the rights that the unit gives are left as they are, for which a second start would be needed', async () => {
    const given = capabilitiesOfUnit().reduce((sum, name) => sum | (1n << BigInt(CAPABILITIES[name])), 0n);
    await underServiceManager(cluster, programs, async ({ controlSocket }) => {
      const { pid } = await new ControlClient(controlSocket).status();
      const found = new Set(
        threadRights(pid).map(({ permitted, noNewPrivileges }) => `${permitted} ${noNewPrivileges}`),
      );
      assert.deepEqual([...found], [`${given} true`]);
    });
  });

  test('a restart loads what carries packets first, and all the rest once they flow', async () => {
    const record = join(cluster.folder, 'loaded');
    await underServiceManager(
      cluster,
      programs,
      async (manager) => {
        rmSync(record);
        await manager.untilReady('restart');
        const loaded = readFileSync(record, 'utf8').split('\n');
        const before = loaded.slice(0, loaded.indexOf(WORKER_RUNS));
        assert.ok(
          before.some((url) => url.endsWith('/udp-backend.js')),
          manager.log,
        );
        const rest =
          /node_modules\/(?!raw-socket\/)|agent-services|-server\.js$|\/(debug|firewall|subnet\/etcd\/[^/]*manager)\b/;
        assert.deepEqual(
          before.filter((url) => rest.test(url)),
          [],
        );
        for (const later of [
          '/agent-services.js',
          '/control-server.js',
          '/firewall.js',
          '/grpc-js/build/src/index.js',
        ]) {
          assert.ok(
            loaded.slice(before.length).some((url) => url.endsWith(later)),
            `${later} is loaded later`,
          );
        }
      },
      { environment: recordingLoads(record) },
    );
  });

  test('kill -9 loses what the agent had in its hands, and no more', async () => {
    await underServiceManager(cluster, programs, async (manager) => {
      const account = await underTraffic(cluster, programs, () => manager.untilReady('kill'));
      assert.ok(account.there.lost <= IN_HAND && account.back.lost <= IN_HAND, JSON.stringify(account));
      assertOrderAndStream(account);
    });
  });

  test('descriptors that do not fit are closed and dropped, and new ones are kept in their place', async () => {
    await underServiceManager(cluster, programs, async (manager) => {
      await cluster.putConfig({ Network: '10.5.0.0/16', Backend: { Type: 'udp', Port: 8286 } });
      try {
        await manager.untilReady('restart');
        assert.match(manager.log, /packets that waited since the last run go on/);
        assert.match(manager.log, /the network configuration has changed since the last run/);
        await manager.untilReady('restart');
        assert.equal(await manager.tell('store', /^store/), 'store tun-0 udp-0');
        const { backend } = await new ControlClient(manager.controlSocket).status();
        assert.equal(backend?.port, 8286);
      } finally {
        await cluster.putConfig({ Network: '10.5.0.0/16' });
      }
      await manager.untilReady('restart');
      const [pod, peer] = cluster.pods;
      await untilReached(pod, peer);
    });
  });

  test('without room in the store the next agent starts as ever', async () => {
    await underServiceManager(
      cluster,
      programs,
      async (manager) => {
        assert.equal(await manager.tell('store', /^store/), 'store');
        await manager.untilReady('restart');
        const [pod, peer] = cluster.pods;
        await untilReached(pod, peer);
      },
      { storeMax: 0 },
    );
  });

  test('workers that fail lose what they had in their hands, and are started again on their descriptors', async () => {
    const [node] = cluster.nodes;
    if (node.daemon?.running === true) await node.daemon.stop();
    const daemon = await node.start([], { environment: withWorkerFaults() });
    const account = await underTraffic(cluster, programs, async () => {
      // The second time they are waited for.
      for (let time = 0; time < 2; time++) await failWorkers(node.running);
    });
    assert.ok(account.there.lost <= 2 * IN_HAND && account.back.lost <= 2 * IN_HAND, JSON.stringify(account));
    assertOrderAndStream(account);
    for (const worker of ['encap-0', 'decap-0']) {
      const lines = daemon.said(new RegExp(`packet worker ${worker} failed and is started again: a fault`));
      assert.equal(lines.length, 1, daemon.evidence);
    }
    assert.doesNotMatch(daemon.output, /\n\s+at /);
    const { state, concerns = [], backend } = await daemon.status();
    assert.equal(state, 'ready');
    assert.deepEqual(
      concerns.map(({ id }) => id),
      ['packet-workers'],
    );
    assert.match(concerns[0].message, /encap-0 has failed 2 times in a row .*decap-0 has failed 2 times in a row/);
    assert.deepEqual(
      backend?.workers.map((worker) => [worker.state, worker.restarts]),
      [
        ['running', 2],
        ['running', 2],
      ],
    );
  });
});
