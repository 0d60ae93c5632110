/** Nodes whose underlay carries less than others': behind a router with a link of 1400 bytes. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Cluster, type Pod } from '../../harness/cluster.js';
import { ping } from '../../harness/ping.js';
import { echoDatagrams, sendTcp, withTcpServer, withUdpListener } from '../../harness/traffic.js';
import { until } from '../../harness/until.js';

describe('a node behind a narrower link', () => {
  let cluster: Cluster;
  let wide: Pod, narrow: Pod;

  before(async () => {
    cluster = await Cluster.create('narrow', { nodes: 2, far: { 2: 1400 } });
    await cluster.startAll();
    [wide, narrow] = cluster.pods;
    await until('the pods reach each other', async () => {
      return (await ping(wide.namespace, narrow.address, { count: 1, waitSeconds: 1 })).received === 1;
    });
  });
  after(() => cluster?.dispose());

  test('has an overlay MTU that its own link carries', () => {
    const [there, here] = cluster.nodes.map((node) => node.running.subnetEnv.FLANNEL_MTU);
    assert.deepEqual([there, here], ['1472', '1372']);
  });

  test('is sent packets that may not be fragmented only as large as the path carries, and the pod is told', async () => {
    await until('the pod is told', async () => {
      const { output } = await ping(wide.namespace, narrow.address, {
        payloadBytes: 1444,
        dontFragment: true,
        waitSeconds: 0.5,
      });
      return /(Frag needed|message too long).*mtu ?= ?1372/i.test(output);
    });
    const fits = await ping(wide.namespace, narrow.address, { payloadBytes: 1344, dontFragment: true });
    assert.equal(fits.received, 3, fits.output);
  });

  test('is reached by large packets that may be fragmented', async () => {
    assert.equal(
      (await ping(wide.namespace, narrow.address, { payloadBytes: 1444, extra: ['-M', 'dont'] })).received,
      3,
    );
    await withUdpListener(
      narrow.namespace,
      5002,
      async () => {
        const sizes = [1300, 1400, 1444, 4000];
        assert.deepEqual(await echoDatagrams(wide.namespace, narrow.address, 5002, sizes), sizes);
      },
      true,
    );
  });

  test('takes part in bulk TCP both ways', async () => {
    for (const [from, to] of [
      [wide, narrow],
      [narrow, wide],
    ]) {
      await withTcpServer(to.namespace, 5000, async () => {
        const { sent, received } = await sendTcp(from.namespace, to.address, 5000, 4 * 1024 * 1024);
        assert.ok(sent !== undefined && sent === received);
      });
    }
  });
});
