/**
 * `flannelctl top` beside real traffic: one busy flow among quiet ones.
 *
 *   pod1 ─ node1 ══ underlay ══ node2 ─ pod2: a stream of datagrams from pod1 to pod2
 *                           ╚══ node3 ─ pod3: pings from pod1
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import type { TopAnswer } from '../../../src/flannelctl/top-report.js';
import { runCommand } from '../../../src/host/command.js';
import { Cluster, type ClusterNode, type Pod } from '../../harness/cluster.js';
import { FLANNELCTL } from '../../harness/daemon.js';
import { ping } from '../../harness/ping.js';
import { until } from '../../harness/until.js';

const PORT = 5201;

describe('flannelctl top', () => {
  let cluster: Cluster;
  let node1: ClusterNode, node2: ClusterNode;
  let pod1: Pod, pod2: Pod, pod3: Pod;
  const children: ChildProcess[] = [];

  before(async () => {
    cluster = await Cluster.create('top', { nodes: 3 });
    await cluster.startAll();
    [node1, node2] = cluster.nodes;
    [pod1, pod2, pod3] = cluster.pods;
    for (const pod of [pod2, pod3]) {
      await until('pods reach each other', async () => {
        return (await ping(pod1.namespace, pod.address, { count: 1, waitSeconds: 1 })).received === 1;
      });
    }
    const server = pod2.namespace.spawn('iperf3', ['--server', '--forceflush', '--port', String(PORT)]);
    let said = '';
    server.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()));
    children.push(server);
    await until('iperf3 listens', () => said.includes('listening'));
    const stream = ['--udp', '--bitrate', '10M', '--length', '1200', '--time', '600', '--port', String(PORT)];
    children.push(
      pod1.namespace.spawn('iperf3', ['--client', pod2.address, ...stream], { stdio: 'ignore' }),
      pod1.namespace.spawn('ping', ['-q', '-i', '0.1', pod3.address], { stdio: 'ignore' }),
    );
  });
  after(async () => {
    for (const child of children) child.kill('SIGKILL');
    await cluster?.dispose();
  });

  const subnet = (pod: Pod) => pod.address.replace(/\d+$/, '0/24');
  const top = async (node: ClusterNode, ...args: string[]) => {
    const { stdout } = await runCommand(FLANNELCTL, ['top', '--socket', node.running.controlSocket, ...args]);
    return stdout;
  };
  const answers = async (node: ClusterNode, ...args: string[]) =>
    JSON.parse(await top(node, '--json', ...args)) as TopAnswer;

  for (const [by, sample] of [
    ['bytes', '1/1'],
    ['packets', '1/10'],
  ] as const) {
    test(`the busiest by ${by} stands first, in its direction, looking at ${sample}`, async () => {
      const busiest = { source: subnet(pod1), destination: subnet(pod2) };
      const flow = { protocol: 'udp', source: pod1.address, destination: pod2.address, destinationPort: PORT };
      for (const [node, direction] of [
        [node1, 'encap'],
        [node2, 'decap'],
      ] as const) {
        // The stream may still have been on its way in the first of them.
        const {
          pairs,
          flows,
          total,
          records,
          sampledEvery,
          node: name,
        } = await until('the stream shows', async () => {
          const answer = await answers(node, '--by', by, '--sample', sample, '--duration', '1s');
          return answer.flows[0]?.protocol === 'udp' ? answer : undefined;
        });
        assert.equal(name, node.address);
        assert.equal(sampledEvery, sample === '1/1' ? 1 : 10);
        assert.ok(records > 0 && total.bytes > 0);
        const [pair] = pairs;
        assert.deepEqual(
          { direction: pair.direction, source: pair.source, destination: pair.destination },
          { direction, ...busiest },
        );
        const { direction: its, protocol, source, destination, destinationPort } = flows[0];
        assert.deepEqual({ its, protocol, source, destination, destinationPort }, { its: direction, ...flow });
        assert.ok(flows[0].share > 0.5 && flows[0].dropped === 0, JSON.stringify(flows[0]));
      }
    });
  }

  test('the quiet ones are there as well, each way', async () => {
    const pairs = await until('the pings show', async () => {
      const found = (await answers(node1, '--sample', '1/1')).pairs.filter(
        ({ source, destination }) => source === subnet(pod3) || destination === subnet(pod3),
      );
      return found.length === 2 ? found : undefined;
    });
    assert.deepEqual(
      new Set(pairs.map(({ direction, source, destination }) => `${direction} ${source} ${destination}`)),
      new Set([`encap ${subnet(pod1)} ${subnet(pod3)}`, `decap ${subnet(pod3)} ${subnet(pod1)}`]),
    );
  });

  test('for people there are two tables, once or until the time is up', async () => {
    const once = await top(node1, '--once', '--interval', '1s', '--count', '1');
    assert.match(
      once,
      /^\S+: [\d.,]+ Mbit\/s, [\d.,]+ packets\/s; .*\n\nPAIRS OF SUBNETS .*\nencap .*\n\nFLOWS .*\nencap +udp .*\n$/,
    );
    const twice = await top(node1, '--interval', '0.5s', '--duration', '1s');
    assert.ok(twice.split('PAIRS OF SUBNETS').length >= 3, twice);
  });
});
