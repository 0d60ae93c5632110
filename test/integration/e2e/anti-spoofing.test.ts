/**
 * What a node takes from the underlay. Every datagram here is sent to the node's own port from a socket of another
 * machine; what is wrong is who sends it or what is inside.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { ETCD_ADDRESS, Cluster, STRANGER_ADDRESS, type ClusterNode, type Pod } from '../../harness/cluster.js';
import type { Namespace } from '../../../src/lab/namespace.js';
import { udpPacket } from '../../harness/inner-packet.js';
import { DatagramSender, httpGet, listenUdp, type Listener, type UdpRecord } from '../../harness/traffic.js';
import { until } from '../../harness/until.js';

const PORT = 7777;
/** Given to node1 after its daemon has started. */
const LATE_ADDRESS = '198.51.100.44';

describe('what arrives on the tunnel port', () => {
  let cluster: Cluster;
  let node1: ClusterNode, node2: ClusterNode;
  let pod1: Pod, pod2: Pod;
  /** The addresses of node1's own subnet end in: 0 flannel0, 1 cni0, 2 the pod. */
  let subnet1: string, subnet2: string;

  /** Sockets that stay: of the pod and the host that receive, and of the machines that send. */
  let inPod: Listener<UdpRecord>, onHost: Listener<UdpRecord>;
  let member: DatagramSender, stranger: DatagramSender;
  let watch: DeviceWatch | undefined;
  let markers = 0;

  before(async () => {
    cluster = await Cluster.create('spoof', { nodes: 2 });
    // A lease of a third node that is not there.
    await cluster.putLease('10.5.200.0/24', '192.168.64.200');
    await cluster.startAll();
    [node1, node2] = cluster.nodes;
    [pod1, pod2] = cluster.pods;
    subnet1 = pod1.address.replace(/\d+$/, '');
    subnet2 = pod2.address.replace(/\d+$/, '');
    [inPod, onHost] = await Promise.all([listenUdp(pod1.namespace, PORT), listenUdp(node1.namespace, PORT)]);
    member = new DatagramSender(node2.namespace, node1.address, 8285);
    stranger = new DatagramSender(cluster.stranger, node1.address, 8285);
  });
  after(() => cluster?.dispose());

  async function restart(flags: readonly string[]): Promise<void> {
    await watch?.stop();
    await node1.running.stop();
    await node1.start([...flags, '--healthz-port=8080']);
    await until(
      'node1 knows the leases of the others',
      async () => (await node1.running.ask('/v1/leases')).length === 3,
    );
    watch = await DeviceWatch.start(node1.namespace);
  }

  /** What came out of node1's flannel0, and what its pod and its own sockets got, while packets were sent. */
  interface Arrivals {
    readonly device: string;
    readonly pod: readonly UdpRecord[];
    readonly host: readonly UdpRecord[];
  }

  /**
   * Sends packets to node1, then one of node2's that must arrive; what has not arrived by then does not. `expected`
   * counts those that do.
   */
  async function deliver(from: DatagramSender, packets: readonly Buffer[], expected = 0): Promise<Arrivals> {
    const start = { pod: inPod.records.length, host: onHost.records.length, device: watch?.output.length ?? 0 };
    await from.send(...packets);
    const marker = `marker ${++markers}.`;
    const end = udpPacket({ source: pod2.address, destination: pod1.address, destinationPort: PORT, payload: marker });
    const arrivals = (): Arrivals => ({
      device: watch?.output.slice(start.device) ?? '',
      pod: inPod.records.slice(start.pod).filter(({ text }) => !text.startsWith('marker')),
      host: onHost.records.slice(start.host),
    });
    await until(
      `${expected} packets and the last one arrive`,
      async () => {
        await member.send(end);
        const { device, pod, host } = arrivals();
        const marked = inPod.records.some(({ text }) => text === marker) && device.includes(marker);
        return marked && pod.length + host.length >= expected;
      },
      { withinMs: 10_000, evidence: () => `${JSON.stringify(arrivals())}\n${node1.running.evidence}` },
    );
    return arrivals();
  }

  /** Sends packets that must be dropped for one reason, each counted. */
  async function assertDropped(
    from: DatagramSender,
    reason: string,
    packets: Readonly<Record<string, Buffer>>,
  ): Promise<void> {
    const start = { pod: inPod.records.length, host: onHost.records.length };
    for (const [what, packet] of Object.entries(packets)) {
      const before = await node1.running.drops('decap', reason);
      await from.send(packet);
      await until(
        `${what} is dropped as ${reason}`,
        async () => (await node1.running.drops('decap', reason)) === before + 1,
        { withinMs: 5_000, everyMs: 5, evidence: () => `it was ${before} before\n${node1.running.evidence}` },
      );
    }
    const { device } = await deliver(from, Object.values(packets));
    assert.doesNotMatch(device, /forged/);
    const isForged = ({ text }: UdpRecord): boolean => text === 'forged';
    assert.deepEqual(inPod.records.slice(start.pod).filter(isForged), []);
    assert.deepEqual(onHost.records.slice(start.host), []);
  }

  const forged = (source: string, destination: string): Buffer =>
    udpPacket({ source, destination, destinationPort: PORT, payload: 'forged' });

  const foreignDestinations = (): Record<string, Buffer> => ({
    "node2's own pods": forged(pod2.address, `${subnet2}9`),
    'a subnet nobody leases': forged(pod2.address, '10.5.201.9'),
    'the address of eth0': forged(pod2.address, node1.address),
    'the loopback address': forged(pod2.address, '127.0.0.1'),
    'a host outside': forged(pod2.address, '203.0.113.9'),
    'a multicast group': forged(pod2.address, '224.0.0.1'),
    'the limited broadcast address': forged(pod2.address, '255.255.255.255'),
  });

  describe('with --source-check=strict, the default', () => {
    before(async () => {
      await restart([]);
      await node1.namespace.addAddress('lo', `${LATE_ADDRESS}/32`);
    });
    after(() => node1.namespace.ip(`address del ${LATE_ADDRESS}/32 dev lo`));

    test("a member's packets arrive, whatever port they come from", async () => {
      const arrivals = await deliver(member, [forged(pod2.address, pod1.address)], 1);
      assert.deepEqual(
        arrivals.pod.map(({ from, text }) => [from, text]),
        [[pod2.address, 'forged']],
      );
    });

    test("a member's packets arrive with its host's address, and those of clients it forwards", async () => {
      const packets = [node2.address, '198.51.100.7', `${subnet2}0`, `${subnet2}255`].map((source) =>
        forged(source, pod1.address),
      );
      const arrivals = await deliver(member, packets, 3);
      for (const source of [node2.address, '198.51.100.7', `${subnet2}0`]) {
        assert.ok(
          arrivals.pod.some(({ from }) => from === source),
          `nothing arrived from ${source}`,
        );
      }
    });

    test("packets reach the host's own addresses in the overlay", async () => {
      const packets = [forged(pod2.address, `${subnet1}0`), forged(pod2.address, `${subnet1}1`)];
      assert.equal((await deliver(member, packets, 2)).host.length, 2);
    });

    test('a stranger reaches no pod and no host address, and is logged once with the flag that would admit it', async () => {
      await assertDropped(stranger, 'unknown-sender', {
        'a perfect packet': forged(pod2.address, pod1.address),
        'a packet to the host': forged(pod2.address, `${subnet1}1`),
        'a packet to eth0': forged(pod2.address, node1.address),
        'a packet of its own': forged(STRANGER_ADDRESS, pod1.address),
      });
      const lines = node1.running.said(/192\.168\.64\.66/);
      assert.equal(lines.length, 1, node1.running.evidence);
      assert.match(lines[0], /--trusted-source/);
    });

    test("a member's forged inner sources reach no pod and no host address", async () => {
      const sources = {
        'an address of the own subnet of the receiver': `${subnet1}7`,
        "the receiver's address in the overlay": `${subnet1}0`,
        "another node's pod": '10.5.200.7',
        'a subnet nobody leases': '10.5.201.7',
        'the address of eth0 of the receiver': node1.address,
        loopback: '127.0.0.1',
        multicast: '224.0.0.5',
        'link-local': '169.254.1.1',
        broadcast: '255.255.255.255',
        unspecified: '0.0.0.0',
      };
      const packets = Object.entries(sources).map(([what, source]) => [what, forged(source, pod1.address)]);
      await assertDropped(member, 'spoofed-source', Object.fromEntries(packets) as Record<string, Buffer>);
      await assertDropped(member, 'spoofed-source', { 'to the host': forged('127.0.0.1', `${subnet1}1`) });
    });

    test('inner destinations outside of the own subnet are reached by nobody', async () => {
      await assertDropped(member, 'foreign-destination', foreignDestinations());
    });

    test('what is no IPv4 packet is dropped for what it is', async () => {
      const whole = forged(pod2.address, pod1.address);
      const with_ = (change: (packet: Buffer) => void): Buffer => {
        const copy = Buffer.from(whole);
        change(copy);
        return copy;
      };
      await assertDropped(member, 'truncated', {
        'an empty datagram': Buffer.alloc(0),
        'one byte': Buffer.from([0x45]),
        '19 bytes': whole.subarray(0, 19),
        'a packet cut short': whole.subarray(0, whole.length - 1),
        'a header of 16 bytes': with_((packet) => (packet[0] = 0x44)),
        'a header longer than the packet': with_((packet) => packet.writeUInt16BE(18, 2)),
      });
      await assertDropped(member, 'not-ipv4', {
        IPv6: with_((packet) => (packet[0] = 0x65)),
        'text of another protocol': Buffer.from('POST / HTTP/1.1\r\nHost: flannel\r\n\r\n'),
      });
      await assertDropped(member, 'ttl-exceeded', {
        'a TTL of 1': udpPacket({ source: pod2.address, destination: pod1.address, ttl: 1, payload: 'forged' }),
      });
    });

    test('a flood of garbage does not stop traffic, and all of it is counted', async () => {
      const before = await node1.running.drops('decap', 'unknown-sender');
      const garbage = Array.from({ length: 2_000 }, (_, index) => Buffer.alloc(index % 1400, index));
      const [arrivals] = await Promise.all([
        deliver(member, [forged(pod2.address, pod1.address)], 1),
        stranger.send(...garbage),
      ]);
      assert.equal(arrivals.pod.length, 1);
      assert.ok((await node1.running.drops('decap', 'unknown-sender')) > before);
      assert.equal(node1.running.said(/192\.168\.64\.66/).length, 1, 'a flood of packets is not a flood of lines');
    });

    test('metrics and status give the same reasons', async () => {
      const { body = '' } = await httpGet(node1.namespace, 'http://127.0.0.1:8080/metrics');
      const { backend } = await node1.running.status();
      for (const reason of ['unknown-sender', 'spoofed-source', 'foreign-destination', 'truncated', 'not-ipv4']) {
        const metric = new RegExp(
          `^flannel_dropped_packets_total\\{direction="decap",reason="${reason}"\\} (\\d+)$`,
          'm',
        ).exec(body);
        assert.equal(Number(metric?.[1]), backend?.decap.dropped[reason], reason);
      }
    });

    test('a node that joins is taken for a member, and a stranger again once its lease is gone', async () => {
      await cluster.putLease('10.5.222.0/24', STRANGER_ADDRESS);
      const packet = forged('10.5.222.5', pod1.address);
      await until('its packets arrive', async () => (await deliver(stranger, [packet])).pod.length === 1);
      await cluster.etcd.delete('/coreos.com/network/subnets/10.5.222.0-24');
      await until('its packets are dropped', async () => (await deliver(stranger, [packet])).pod.length === 0);
    });

    test("an address that the host got since it was started cannot be used by others' packets either", async () => {
      await until(
        'the address is known to be the own',
        async () => {
          const before = await node1.running.drops('decap', 'spoofed-source');
          await deliver(member, [forged(LATE_ADDRESS, pod1.address)]);
          return (await node1.running.drops('decap', 'spoofed-source')) > before;
        },
        { everyMs: 300 },
      );
    });
  });

  describe('with --source-check=outer', () => {
    before(() => restart(['--source-check=outer']));

    test('members may use any inner source, strangers none', async () => {
      const arrivals = await deliver(member, [forged('10.5.200.7', pod1.address)], 1);
      assert.deepEqual(
        arrivals.pod.map(({ from }) => from),
        ['10.5.200.7'],
      );
      await assertDropped(stranger, 'unknown-sender', { 'a packet': forged(pod2.address, pod1.address) });
    });

    test('inner destinations outside of the own subnet are reached by nobody', async () => {
      await assertDropped(member, 'foreign-destination', foreignDestinations());
    });
  });

  describe('with --source-check=off', () => {
    before(() => restart(['--source-check=off']));

    test('strangers reach the pods, as with flannel', async () => {
      const arrivals = await deliver(stranger, [forged('10.5.200.7', pod1.address)], 1);
      assert.deepEqual(
        arrivals.pod.map(({ from }) => from),
        ['10.5.200.7'],
      );
    });

    test('but no host address outside of the own subnet', async () => {
      await assertDropped(stranger, 'foreign-destination', foreignDestinations());
    });
  });

  describe('with --trusted-source', () => {
    before(() => restart([`--trusted-source=${STRANGER_ADDRESS}/32`, '--trusted-source', '203.0.113.0/24']));

    test('the named sender is taken for the node it forwards for', async () => {
      const arrivals = await deliver(stranger, [forged(pod2.address, pod1.address)], 1);
      assert.deepEqual(
        arrivals.pod.map(({ from }) => from),
        [pod2.address],
      );
      const outside = new DatagramSender(cluster.outside, node1.address, 8285);
      assert.equal((await deliver(outside, [forged(pod2.address, pod1.address)], 1)).pod.length, 1);
    });

    test("it still may not use this node's own addresses, or reach others than its subnet", async () => {
      await assertDropped(stranger, 'spoofed-source', {
        loopback: forged('127.0.0.1', pod1.address),
        'the own subnet': forged(`${subnet1}7`, pod1.address),
        'the own address': forged(node1.address, pod1.address),
      });
      await assertDropped(stranger, 'foreign-destination', foreignDestinations());
    });

    test('others are strangers as before', async () => {
      const before = await node1.running.drops('decap', 'unknown-sender');
      const other = new DatagramSender(cluster.underlay, node1.address, 8285, ETCD_ADDRESS);
      await other.send(forged(pod2.address, pod1.address));
      await until('it is dropped', async () => (await node1.running.drops('decap', 'unknown-sender')) === before + 1);
    });
  });
});

/** What comes out of flannel0, with the payload of each packet. */
class DeviceWatch {
  readonly #child: ChildProcess;
  #notes = '';
  output = '';

  private constructor(namespace: Namespace) {
    this.#child = namespace.spawn('tcpdump', ['-i', 'flannel0', '-Q', 'in', '-n', '-A', '-U', '-l', 'ip']);
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.output += chunk.toString()));
    this.#child.stderr?.on('data', (chunk: Buffer) => (this.#notes += chunk.toString()));
  }

  static async start(namespace: Namespace): Promise<DeviceWatch> {
    const watch = new DeviceWatch(namespace);
    await until('tcpdump listens', () => watch.#notes.includes('listening on'), {
      everyMs: 10,
      evidence: () => watch.#notes,
    });
    return watch;
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.kill('SIGINT');
    await ended;
  }
}
