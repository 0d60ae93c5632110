/** Three nodes with two pods each: who reaches whom, and what becomes of a packet on its way. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Namespace } from '../../../src/lab/namespace.js';
import { Cluster, STRANGER_ADDRESS, type ClusterNode, type Pod } from '../../harness/cluster.js';
import { ping, SteadyPing } from '../../harness/ping.js';
import { echoDatagrams, sendTcp, withTcpServer, withUdpListener } from '../../harness/traffic.js';
import { until } from '../../harness/until.js';

const MEGABYTE = 1024 * 1024;

describe('an overlay of three nodes', () => {
  let cluster: Cluster;
  let node1: ClusterNode, node2: ClusterNode, node3: ClusterNode;
  let pod1a: Pod, pod2a: Pod, pod3a: Pod;

  before(async () => {
    cluster = await Cluster.create('connect', { nodes: 3 });
    await cluster.startAll([], 2);
    [node1, node2, node3] = cluster.nodes;
    [pod1a, pod2a, pod3a] = cluster.nodes.map((node) => node.pods[0]);
    await untilConnected(cluster);
  });
  after(() => cluster?.dispose());

  test('every pod reaches every pod without loss', async () => {
    const pairs = cluster.pods.flatMap((from) => cluster.pods.map((to) => [from, to] as const));
    const losses: string[] = [];
    await inTurns(pairs, 6, async ([from, to]) => {
      const { sent, received } = await ping(from.namespace, to.address);
      if (sent !== 3 || received !== 3) losses.push(`${from.name} to ${to.name}: ${received} of ${sent}`);
    });
    assert.deepEqual(losses, []);
  });

  test('hosts reach all pods and each other by their overlay addresses, and pods reach the hosts', async () => {
    const losses: string[] = [];
    const check = async (name: string, from: Namespace, to: string): Promise<void> => {
      const { sent, received } = await ping(from, to);
      if (sent !== 3 || received !== 3) losses.push(`${name} to ${to}: ${received} of ${sent}`);
    };
    const overlayAddresses = cluster.nodes.map((node) => node.running.subnetEnv.FLANNEL_SUBNET.split('/')[0]);
    const trips = [
      ...cluster.nodes.flatMap((node) => cluster.pods.map((pod) => [node.name, node.namespace, pod.address] as const)),
      ...cluster.nodes.flatMap((node) => overlayAddresses.map((to) => [node.name, node.namespace, to] as const)),
      ...cluster.pods.flatMap((pod) => overlayAddresses.map((to) => [pod.name, pod.namespace, to] as const)),
    ];
    await inTurns(trips, 6, ([name, from, to]) => check(name, from, to));
    assert.deepEqual(losses, []);
  });

  test('a host that uses its underlay address as source reaches remote pods', async () => {
    const { received } = await ping(node1.namespace, pod2a.address, { extra: ['-I', node1.address] });
    assert.equal(received, 3);
  });

  test('bulk TCP arrives whole in both directions at once', async () => {
    await withTcpServer(pod2a.namespace, 5000, () =>
      withTcpServer(pod1a.namespace, 5000, async () => {
        const results = await Promise.all([
          sendTcp(pod1a.namespace, pod2a.address, 5000, 24 * MEGABYTE),
          sendTcp(pod2a.namespace, pod1a.address, 5000, 24 * MEGABYTE),
        ]);
        for (const { sent, received, error } of results) {
          assert.equal(error, undefined);
          assert.ok(sent !== undefined && sent === received, 'the hashes of what was sent and what arrived differ');
        }
      }),
    );
  });

  test('many TCP connections at once arrive whole', async () => {
    await withTcpServer(pod3a.namespace, 5001, async () => {
      const senders = cluster.pods.filter((pod) => !node3.pods.includes(pod));
      const results = await Promise.all(
        [...senders, ...senders].map((pod) => sendTcp(pod.namespace, pod3a.address, 5001, 2 * MEGABYTE)),
      );
      for (const { sent, received } of results) assert.ok(sent !== undefined && sent === received);
    });
  });

  test('UDP datagrams of every size come back whole, those larger than the MTU in fragments', async () => {
    await withUdpListener(
      pod2a.namespace,
      5002,
      async () => {
        const sizes = [0, 1, 7, 512, 1400, 1443, 1444, 1445, 2000, 9000, 40_000];
        assert.deepEqual(await echoDatagrams(pod1a.namespace, pod2a.address, 5002, sizes), sizes);
      },
      true,
    );
  });

  test('a packet of 1472 bytes passes unfragmented, one of 1473 does not, and the pod is told', async () => {
    const fits = await ping(pod1a.namespace, pod2a.address, { payloadBytes: 1444, dontFragment: true });
    assert.equal(fits.received, 3, fits.output);
    // A pod whose own device would let more through learns it from its node.
    await pod1a.namespace.setMtu('eth0', 1500);
    await node1.namespace.setMtu('cni0', 1500);
    await node1.namespace.setMtu('veth1', 1500);
    try {
      const tooBig = await ping(pod1a.namespace, pod2a.address, { payloadBytes: 1445, dontFragment: true });
      assert.equal(tooBig.received, 0, tooBig.output);
      assert.match(tooBig.output, /(Frag needed|message too long).*mtu ?= ?1472/i);
    } finally {
      await pod1a.namespace.setMtu('eth0', 1472);
      await pod1a.namespace.ip('route flush cache');
    }
    const local = await ping(pod1a.namespace, pod2a.address, { payloadBytes: 1445, dontFragment: true });
    assert.equal(local.received, 0);
    assert.match(local.output, /message too long, mtu=1472/);
  });

  test('fragments of large packets pass', async () => {
    const { received, output } = await ping(pod1a.namespace, pod2a.address, { payloadBytes: 4000 });
    assert.equal(received, 3, output);
  });

  test('packets with IP options pass', async () => {
    const { received, output } = await ping(pod1a.namespace, pod2a.address, { extra: ['-T', 'tsandaddr'] });
    assert.equal(received, 3, output);
  });

  test('DSCP and ECN are kept, and the overlay takes two from the TTL', async () => {
    const seen = await capture(pod2a.namespace, 'icmp[icmptype] = icmp-echo', async () => {
      await ping(pod1a.namespace, pod2a.address, { count: 1, ttl: 20, extra: ['-Q', '0xba'] });
    });
    // DSCP EF with ECT(0). One hop each are node1's kernel, its overlay, node2's overlay and its kernel.
    assert.match(seen, /tos 0xba,ECT\(0\)/);
    assert.match(seen, /ttl 16,/);
    const echo = await ping(pod1a.namespace, pod2a.address, { count: 1 });
    assert.match(echo.output, /ttl=60 /);
  });

  test('a ping into a subnet that nobody leases is answered with net-unreachable, to pods and to the host', async () => {
    const unleased = await unleasedAddress(cluster);
    for (const from of [pod1a.namespace, node1.namespace]) {
      const { received, output } = await ping(from, unleased, { count: 2, intervalSeconds: 0.2 });
      assert.equal(received, 0);
      assert.match(output, /Destination Net Unreachable/);
    }
    const own = node1.running.subnetEnv.FLANNEL_SUBNET.replace(/\.1\/\d+$/, '.0');
    const { output } = await ping(pod1a.namespace, unleased, { count: 1 });
    assert.match(output, new RegExp(`From ${own.replaceAll('.', '\\.')} `), 'the answer comes from the node itself');
  });

  test('a TCP connection into a subnet that nobody leases fails at once instead of hanging', async () => {
    const { error } = await sendTcp(pod1a.namespace, await unleasedAddress(cluster), 5000, 1);
    assert.match(error ?? '', /ENETUNREACH/);
  });

  test('a packet whose TTL ends in the overlay is answered with time-exceeded by the node where it ended', async () => {
    const hops = [node1, node1, node2, node2];
    for (const [index, node] of hops.entries()) {
      const { output } = await ping(pod1a.namespace, pod2a.address, { count: 1, ttl: index + 1 });
      const subnet = node.running.subnetEnv.FLANNEL_SUBNET.replace(/\d+\/\d+$/, '');
      assert.match(output, new RegExp(`From ${subnet.replaceAll('.', '\\.')}[01] .*Time to live exceeded`), output);
    }
    const fromHost = await ping(node1.namespace, pod2a.address, { count: 1, ttl: 1 });
    assert.match(fromHost.output, /Time to live exceeded/, fromHost.output);
  });

  test('traceroute from a pod shows every hop', async () => {
    const args = ['-n', '-q', '1', '-w', '2', pod2a.address];
    const { stdout } = await pod1a.namespace.exec('traceroute', args);
    const hops = stdout
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/)[1]);
    const network = (pod: Pod): string => pod.address.replace(/\d+$/, '');
    assert.equal(hops.length, 5, stdout);
    assert.deepEqual(
      hops.map((hop) => hop.replace(/\d+$/, '')),
      [pod1a, pod1a, pod2a, pod2a, pod2a].map(network),
      stdout,
    );
    assert.equal(hops[4], pod2a.address);
  });

  test('an underlay that is narrower than the overlay is told to the pod, which then sends smaller packets', async () => {
    await node1.namespace.ip(`route add ${node2.address}/32 dev eth0 mtu 1400`);
    try {
      const { output } = await ping(pod1a.namespace, pod2a.address, {
        payloadBytes: 1444,
        dontFragment: true,
        intervalSeconds: 0.3,
      });
      assert.match(output, /(Frag needed|message too long).*mtu ?= ?1372/i);
      const fits = await ping(pod1a.namespace, pod2a.address, { payloadBytes: 1344, dontFragment: true });
      assert.equal(fits.received, 3, fits.output);
      await withTcpServer(pod2a.namespace, 5003, async () => {
        const { sent, received } = await sendTcp(pod1a.namespace, pod2a.address, 5003, 4 * MEGABYTE);
        assert.ok(sent !== undefined && sent === received);
      });
    } finally {
      await node1.namespace.ip(`route del ${node2.address}/32`);
      await pod1a.namespace.ip('route flush cache');
    }
  });

  test('a node that joins later is reached by all, and one that is removed from the store is unreachable', async () => {
    await cluster.putLease('10.5.254.0/24', STRANGER_ADDRESS);
    const seen = await until('a datagram goes to the new node', async () => {
      const dump = await capture(
        cluster.stranger,
        'udp port 8285',
        () => ping(pod1a.namespace, '10.5.254.7', { count: 1, waitSeconds: 0.2 }),
        1_000,
      );
      return dump.includes('8285') ? dump : undefined;
    });
    assert.match(seen, /192\.168\.64\.11\.8285 > 192\.168\.64\.66\.8285: UDP, length 84/);
    await cluster.etcd.delete('/coreos.com/network/subnets/10.5.254.0-24');
    await until('the removed subnet is unreachable', async () => {
      const { output } = await ping(pod1a.namespace, '10.5.254.7', { count: 1, waitSeconds: 0.2 });
      return output.includes('Destination Net Unreachable');
    });
  });

  test('a long series of pings among all nodes loses nothing', async () => {
    const pings = await Promise.all([
      SteadyPing.start(pod1a.namespace, pod2a.address, { intervalSeconds: 0.005 }),
      SteadyPing.start(pod2a.namespace, pod3a.address, { intervalSeconds: 0.005, payloadBytes: 1444 }),
      SteadyPing.start(pod3a.namespace, pod1a.address, { intervalSeconds: 0.005, payloadBytes: 3000 }),
    ]);
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    for (const steady of pings) {
      const { sent, received } = await steady.stop();
      assert.ok(sent > 100);
      assert.equal(received, sent);
    }
  });

  test('ICMP errors are limited in number, as a router limits them, and the rest is counted', async () => {
    const before = (await node1.running.status()).backend;
    const { sent, received } = await ping(pod1a.namespace, await unleasedAddress(cluster), {
      count: 200,
      intervalSeconds: 0.002,
      waitSeconds: 1,
    });
    assert.deepEqual([sent, received], [200, 0]);
    let [told, limited] = [0, 0];
    await until('every one of them is counted', async () => {
      const { backend } = await node1.running.status();
      told = (backend?.icmpErrorsSent ?? 0) - (before?.icmpErrorsSent ?? 0);
      limited = (backend?.icmpErrorsRateLimited ?? 0) - (before?.icmpErrorsRateLimited ?? 0);
      return told + limited >= 200;
    });
    assert.equal(told + limited, 200);
    assert.ok(told >= 1 && limited > 100, `${told} were told, ${limited} were not`);
  });
});

/** Waits until every node knows every other: a lease reaches the others a moment after it was taken. */
async function untilConnected(cluster: Cluster): Promise<void> {
  for (const from of cluster.nodes) {
    for (const to of cluster.pods) {
      await until(`${from.name} reaches ${to.name}`, async () => {
        const { received } = await ping(from.namespace, to.address, { count: 1, waitSeconds: 1 });
        return received === 1;
      });
    }
  }
}

/** Does `work` for each item, so many at a time. */
async function inTurns<T>(items: readonly T[], atOnce: number, work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const turn = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: atOnce }, turn));
}

/** An address of the network that lies in nobody's subnet. */
async function unleasedAddress(cluster: Cluster): Promise<string> {
  const leased = new Set((await cluster.storedLeases()).map(({ key }) => /\.(\d+)\.0-24$/.exec(key)?.[1]));
  const free = [201, 202, 203, 204].find((third) => !leased.has(String(third)));
  return `10.5.${free}.9`;
}

/** What tcpdump shows of the first packet that matches while `work` goes on. */
async function capture(
  namespace: Namespace,
  filter: string,
  work: () => Promise<unknown>,
  withinMs = 10_000,
): Promise<string> {
  const child = namespace.spawn('tcpdump', ['-i', 'eth0', '-n', '-v', '-c', '1', '-l', filter]);
  let output = '';
  let notes = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (notes += chunk.toString()));
  const ended = new Promise((resolve) => child.once('close', resolve));
  await until('tcpdump listens', () => notes.includes('listening on'), { everyMs: 10, evidence: () => notes });
  await work();
  const timer = setTimeout(() => child.kill('SIGINT'), withinMs);
  await ended;
  clearTimeout(timer);
  return output;
}
