/**
 * `flannelctl explain` against what the dataplane then does.
 *
 *   node1: cni0 with a pod that sends          node2: no bridge, so that its own subnet leads into flannel0, too;
 *   sink (the harness's stranger): the addresses of further next hops, on which it hears what arrives
 *
 * Every random packet is explained first and sent then. Inner packets are ICMP errors, about which nobody answers with
 * an error of his own, so that the counters tell of the test's packets only.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { BackendStatus, DirectionCounters } from '../../../src/backend/status.js';
import type { Explanation, PacketSpec } from '../../../src/debug/explain/packet-spec.js';
import type { Namespace } from '../../../src/lab/namespace.js';
import { formatIpv4 } from '../../../src/packet/address.js';
import { checksum } from '../../../src/packet/checksum.js';
import { writeIpv4Header } from '../../../src/packet/ipv4.js';
import { Cluster, STRANGER_ADDRESS, type ClusterNode, type Pod } from '../../harness/cluster.js';
import { FLANNELCTL } from '../../harness/daemon.js';
import { DatagramSender, Listener } from '../../harness/traffic.js';
import { until } from '../../harness/until.js';
import { ip } from '../../support/addresses.js';

const PROGRAM = fileURLToPath(new URL('./explain-program.js', import.meta.url));
const PORT = 8285;
const ICMP = 1;
/** Leases of nodes that are only a socket here, of usual and unusual lengths. */
const SINKS: readonly (readonly [subnet: string, address: string])[] = [
  ['10.5.200.0/24', '192.168.64.201'],
  ['10.5.201.0/24', '192.168.64.202'],
  ['10.5.128.0/20', '192.168.64.203'],
  ['10.5.130.64/26', '192.168.64.204'],
];

/** What a sink heard: at which of its addresses, and where the inner packet is to go. */
interface Arrival {
  readonly at: string;
  readonly destination: string;
}

/** Numbers that come again with the same seed (xorshift). */
class Dice {
  constructor(private state: number) {}

  below(limit: number): number {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state ^= this.state << 5;
    return (this.state >>> 0) % limit;
  }

  of<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)];
  }
}

/** A packet that nobody answers: ICMP destination-unreachable, about nothing. */
function icmpError(source: number, destination: number, ttl: number): Buffer {
  const packet = Buffer.alloc(56);
  writeIpv4Header(packet, 0, { totalBytes: packet.length, protocol: ICMP, source, destination, ttl });
  packet[20] = 3;
  packet[21] = 1;
  packet.writeUInt16BE(checksum(packet, 20, packet.length - 20), 22);
  return packet;
}

/** Runs the program's line-by-line commands: as many answers as lines. */
async function each<T>(namespace: Namespace, args: readonly string[], lines: readonly string[]): Promise<T[]> {
  const { stdout, stderr } = await namespace.exec(process.execPath, [PROGRAM, ...args], {
    input: lines.map((line) => `${line}\n`).join(''),
    timeoutMs: 240_000,
  });
  const answers = stdout.trim().split('\n');
  assert.equal(answers.length, lines.length, stderr);
  return answers.map((line) => JSON.parse(line) as T);
}

/** What an explanation foretells, in terms of counters: one number of one of them goes up by one. */
function effectOf({ direction, verdict, steps }: Explanation): { here: string; there: string } {
  const dropped = verdict === 'dropped' ? steps.findLast(({ outcome }) => outcome === 'drop') : undefined;
  const passedHere =
    direction !== 'local' && steps.some(({ step, outcome }) => step === 'dataplane' && outcome === 'pass');
  const reason = /drops? it: ([a-z-]+)/.exec(dropped?.fact ?? '')?.[1];
  if (dropped?.step === 'dataplane') return { here: `dropped ${reason}`, there: 'nothing' };
  if (!passedHere) return { here: 'nothing', there: 'nothing' };
  return { here: 'passed', there: dropped?.step === 'next-hop' ? `dropped ${reason}` : 'passed' };
}

function counted({ packets, dropped }: DirectionCounters): Record<string, number> {
  const reasons = Object.entries(dropped).filter(([reason]) => reason !== 'not-ipv4'); // the kernel's own IPv6
  return { passed: packets, ...Object.fromEntries(reasons.map(([reason, count]) => [`dropped ${reason}`, count])) };
}

function grown(before: Record<string, number>, now: Record<string, number>): Record<string, number> {
  const pairs = Object.entries(now).map(([name, count]) => [name, count - (before[name] ?? 0)] as const);
  return Object.fromEntries(pairs.filter(([, count]) => count !== 0));
}

function tally(effects: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const effect of effects) if (effect !== 'nothing') counts[effect] = (counts[effect] ?? 0) + 1;
  return counts;
}

describe('explain', () => {
  const seed = Number(process.env.FLANNEL_TEST_SEED ?? Date.now() % 0x7fffffff) | 1;
  const dice = new Dice(seed);
  let cluster: Cluster;
  let node1: ClusterNode, node2: ClusterNode;
  let pod: Pod;
  let sink: Listener<Arrival>;
  /** First addresses of the two nodes' subnets. */
  let subnet1: number, subnet2: number;

  before(async () => {
    cluster = await Cluster.create('explain', { nodes: 2 });
    for (const [, address] of SINKS) await cluster.stranger.addAddress('eth0', `${address}/24`);
    for (const [subnet, address] of SINKS) await cluster.putLease(subnet, address);
    [node1, node2] = cluster.nodes;
    await Promise.all([node1.start(['--ip-masq']), node2.start()]);
    pod = await node1.addPod();
    subnet1 = ip(pod.address) - 2;
    subnet2 = ip(node2.running.subnetEnv.FLANNEL_SUBNET.split('/')[0]) - 1;
    await node2.namespace.addRoute('198.51.100.0/24', 'dev flannel0');
    const addresses = SINKS.map(([, address]) => address);
    sink = await new Listener<Arrival>(cluster.stranger, ['sink', String(PORT), ...addresses], PROGRAM).ready();
    for (const node of [node1, node2]) {
      await until(
        'the leases are known',
        async () => (await node.running.ask('/v1/leases')).length === 2 + SINKS.length,
      );
      for (const address of addresses) await node.namespace.exec('ping', ['-c', '1', '-W', '5', address]);
    }
  });
  after(async () => {
    await sink?.stop();
    await cluster?.dispose();
  });

  const backendOf = async (node: ClusterNode): Promise<BackendStatus> =>
    (await node.running.status()).backend ?? assert.fail('no backend');

  const spec = (of: Partial<PacketSpec> & Pick<PacketSpec, 'destination'>): PacketSpec => ({
    protocol: ICMP,
    ttl: 64,
    lengthBytes: 56,
    dontFragment: false,
    ...of,
  });

  /** Anything that a packet may be sent to: leased here, there and elsewhere, unleased, outside. */
  function anyDestination(): number {
    const host = dice.below(256);
    switch (dice.below(8)) {
      case 0:
        return subnet1 + host;
      case 1:
        return subnet2 + host;
      case 2:
      case 3: {
        const [address, length] = dice.of(SINKS)[0].split('/');
        return ip(address) + dice.below(2 ** (32 - Number(length)));
      }
      case 4:
        return ip('198.51.100.0') + host; // routed into flannel0 on node2, by mistake
      case 5:
        return ip('203.0.113.0') + host;
      default:
        return ip('10.5.0.0') + dice.below(65_536);
    }
  }
  const anyTtl = (): number => dice.of([1, 2, 3, 4, 5, 64, 64, 64]);

  /** Says how random packets fare, sends them, and holds the one against the other. */
  async function agree(
    node: ClusterNode,
    direction: 'encap' | 'decap',
    specs: readonly PacketSpec[],
    send: () => Promise<unknown>,
  ): Promise<readonly Explanation[]> {
    const explained = await each<Explanation>(
      node.namespace,
      ['explain', node.running.controlSocket],
      specs.map((one) => JSON.stringify(one)),
    );
    const effects = explained.map(effectOf);
    const beyond = node === node1 ? node2 : node1;
    const expected = {
      here: tally(effects.map(({ here }) => here)),
      beyond: tally(effects.filter((_, index) => hopOf(explained[index]) === beyond.address).map(({ there }) => there)),
      sink: explained
        .filter((one) => SINKS.some(([, address]) => address === hopOf(one)))
        .map((one) => `${one.destination} at ${hopOf(one)}`)
        .sort(),
    };
    const before = { here: await backendOf(node), beyond: await backendOf(beyond), sink: sink.records.length };
    await send();
    const seen = async (): Promise<typeof expected> => ({
      here: grown(counted(before.here[direction]), counted((await backendOf(node))[direction])),
      beyond:
        direction === 'decap' ? {} : grown(counted(before.beyond.decap), counted((await backendOf(beyond)).decap)),
      sink: sink.records
        .slice(before.sink)
        .map(({ at, destination }) => `${destination} at ${at}`)
        .sort(),
    });
    const total = (of: typeof expected): number =>
      [...Object.values(of.here), ...Object.values(of.beyond)].reduce((sum, count) => sum + count, 0) + of.sink.length;
    try {
      await until('as many are counted as were foretold', async () => total(await seen()) >= total(expected));
    } catch {
      // The comparison below says what is missing.
    }
    assert.deepEqual(await seen(), expected, `seed ${seed}`);
    return explained;
  }

  const hopOf = (explanation: Explanation): string | undefined => {
    const dropped = explanation.steps.findLast(({ outcome }) => outcome === 'drop');
    return dropped === undefined || dropped.step === 'next-hop' ? explanation.nextHop?.split(':')[0] : undefined;
  };

  test(`agrees with what happens to 1,000 random packets (FLANNEL_TEST_SEED=${seed})`, async (t) => {
    t.diagnostic(`seed ${seed}`);
    const all: Explanation[] = [];

    const fromPod = Array.from({ length: 500 }, () =>
      spec({ source: ip(pod.address), destination: anyDestination(), ttl: anyTtl() }),
    );
    const packetsOf = (specs: readonly PacketSpec[], source: number): string[] =>
      specs.map((one) => icmpError(one.source ?? source, one.destination, one.ttl).toString('hex'));
    all.push(...(await agree(node1, 'encap', fromPod, () => each(pod.namespace, ['send'], packetsOf(fromPod, 0)))));

    const ofHost = Array.from({ length: 200 }, () => spec({ destination: anyDestination(), ttl: anyTtl() }));
    all.push(
      ...(await agree(node2, 'encap', ofHost, () => each(node2.namespace, ['send'], packetsOf(ofHost, subnet2)))),
    );

    const senders = [
      { address: node2.address, sender: new DatagramSender(node2.namespace, node1.address, PORT) },
      {
        address: STRANGER_ADDRESS,
        sender: new DatagramSender(cluster.stranger, node1.address, PORT, STRANGER_ADDRESS),
      },
      { address: SINKS[0][1], sender: new DatagramSender(cluster.stranger, node1.address, PORT, SINKS[0][1]) },
    ];
    const arriving = Array.from({ length: 300 }, () => {
      const { address, sender } = dice.of(senders);
      const destination = dice.below(3) === 0 ? anyDestination() : ip(pod.address) + dice.below(4) - 2;
      const source = dice.of([subnet2 + dice.below(256), ip('10.5.200.0') + dice.below(256), anyDestination()]);
      return { sender, spec: spec({ source, destination, ttl: anyTtl(), sender: ip(address) }) };
    });
    all.push(
      ...(await agree(
        node1,
        'decap',
        arriving.map((one) => one.spec),
        async () => {
          for (const { sender, spec: one } of arriving) {
            await sender.send(icmpError(one.source ?? 0, one.destination, one.ttl));
          }
        },
      )),
    );

    const reasons = new Set(all.map(({ verdict, reason }) => reason ?? verdict));
    for (const reason of [
      ...['forwarded', 'delivered', 'no-lease', 'own-subnet', 'outside-network', 'ttl-exceeded'],
      ...['unknown-sender', 'spoofed-source', 'foreign-destination'],
    ]) {
      assert.ok(reasons.has(reason), `no packet came to ${reason}: ${[...reasons].join(' ')}`);
    }
  });

  async function run(
    node: ClusterNode,
    ...args: string[]
  ): Promise<{ status: number; stdout: string; stderr: string }> {
    return node.namespace.exec(
      process.execPath,
      [FLANNELCTL, 'explain', '--socket', node.running.controlSocket, ...args],
      { allowFailure: true },
    );
  }
  const json = async (...args: string[]): Promise<Explanation & { exit: number }> => {
    const { status, stdout } = await run(node1, '--json', ...args);
    return { ...(JSON.parse(stdout) as Explanation), exit: status };
  };
  const text = formatIpv4;

  test('tells each decision with its fact, and the verdict by the exit status', async () => {
    const good = await run(node1, pod.address, text(subnet2 + 9));
    assert.equal(good.status, 0);
    assert.match(good.stdout, /source +10\.5\.\d+\.2 is behind cni0/);
    assert.match(good.stdout, /route +the route to \S+ leads into flannel0/);
    assert.match(good.stdout, /firewall +forward: the packet is accepted by `-s 10\.5\.0\.0\/16 .*FLANNEL-FWD/);
    assert.match(good.stdout, /underlay +192\.168\.64\.12 is reached through eth0, path MTU 1500/);
    assert.match(good.stdout, new RegExp(`\nforwarded to 192\\.168\\.64\\.12:8285 by lease ${text(subnet2)}/24\n$`));

    const none = await json(pod.address, '10.5.177.7');
    assert.deepEqual([none.exit, none.verdict, none.reason, none.lease], [1, 'dropped', 'no-lease', null]);
    const local = await json(pod.address, text(subnet1 + 1));
    assert.deepEqual([local.exit, local.verdict, local.direction], [0, 'delivered', 'local']);
    const large = await json(pod.address, text(subnet2 + 9), '--size', '1500', '--df');
    assert.deepEqual([large.exit, large.reason], [1, 'packet-too-big']);
    const back = await json(text(subnet2 + 9), pod.address);
    assert.deepEqual([back.exit, back.verdict, back.direction], [0, 'delivered', 'decap']);
  });

  test('finds the rule that eats a packet, or its datagram', async () => {
    const destination = text(subnet2 + 9);
    const rules: readonly (readonly [rule: string, reason: string, args: string[]])[] = [
      [
        'FORWARD -p tcp --dport 80 -j DROP',
        'firewall',
        [pod.address, destination, '--protocol', 'tcp', '--port', '80'],
      ],
      ['OUTPUT -p udp --dport 8285 -j DROP', 'send-failed', [pod.address, destination]],
      ['INPUT -p udp --dport 8285 -j DROP', 'firewall', [destination, pod.address]],
    ];
    for (const [rule, reason, args] of rules) {
      const [chain, ...words] = rule.split(' ');
      await node1.namespace.exec('iptables', ['-I', chain, ...words]);
      try {
        const { exit, reason: found, steps } = await json(...args);
        assert.deepEqual([exit, found], [1, reason], rule);
        assert.match(steps.at(-1)?.fact ?? '', /dropped by `.*-j DROP`/);
      } finally {
        await node1.namespace.exec('iptables', ['-D', chain, ...words]);
      }
    }
    await node1.namespace.exec('nft', [
      'add table inet fw; add chain inet fw f { type filter hook forward priority 5; }; add rule inet fw f ip daddr 10.5.0.0/16 drop',
    ]);
    try {
      assert.equal((await json(pod.address, destination)).reason, 'firewall');
    } finally {
      await node1.namespace.exec('nft', ['delete table inet fw']);
    }
  });

  test('tells of masquerading, and goes on naming the packet by the source that it was sent with', async () => {
    const rule = ['POSTROUTING', '-t', 'nat', '-s', pod.address, '-d', node2.address, '-j', 'MASQUERADE'];
    await node1.namespace.exec('iptables', ['-I', ...rule]);
    try {
      const { source, steps } = await json(pod.address, node2.address);
      assert.equal(source, pod.address);
      assert.ok(
        steps.some(({ fact }) => fact === `so its source becomes ${node1.address}`),
        JSON.stringify(steps),
      );
    } finally {
      await node1.namespace.exec('iptables', ['-D', ...rule]);
    }
  });

  test('knows what rp_filter, forwarding and routes do to a packet', async () => {
    const destination = text(subnet2 + 9);
    await node1.namespace.setSysctl('net.ipv4.conf.cni0.forwarding', 0);
    assert.equal((await json(pod.address, destination)).reason, 'forwarding-off');
    await node1.namespace.setSysctl('net.ipv4.conf.cni0.forwarding', 1);

    await node1.namespace.setSysctl('net.ipv4.conf.flannel0.rp_filter', 1);
    const unmasqueraded = await json(node2.address, pod.address, '--sender', node2.address);
    assert.deepEqual([unmasqueraded.exit, unmasqueraded.reason], [1, 'rp-filter']);
    await node1.namespace.setSysctl('net.ipv4.conf.flannel0.rp_filter', 0);
    assert.equal((await json(node2.address, pod.address, '--sender', node2.address)).exit, 0);

    await node1.namespace.addRoute(`${destination}/32`, 'via 192.168.64.1');
    const stolen = await json(pod.address, destination);
    assert.deepEqual([stolen.direction, stolen.nextHop], ['local', '192.168.64.1']);
    assert.ok(stolen.steps.some(({ outcome, fact }) => outcome === 'unsure' && fact.includes('past flannel0')));
    await node1.namespace.ip(`route delete ${destination}/32`);
  });

  test('knows that a packet between two pods of one bridge is not routed, nor always filtered', async (t) => {
    const other = await node1.addPod();
    /** Explains a packet that no router would forward, sends it, and holds the one against the other. */
    const agreed = async (what: string): Promise<Explanation> => {
      const told = await json(pod.address, other.address, '--ttl', '1');
      const patience = told.exit === 0 ? '10' : '1';
      const args = ['-c', '1', '-W', patience, '-t', '1', other.address];
      const { status } = await pod.namespace.exec('ping', args, { allowFailure: true });
      assert.equal(told.exit, status, `${what}: ${JSON.stringify(told.steps)}`);
      return told;
    };
    const told = await agreed('on its way');
    assert.deepEqual([told.verdict, told.direction, told.nextHop], ['delivered', 'local', null]);
    assert.match(told.steps[1].fact, /the bridge hands the frame on, with its TTL of 1,/);
    assert.ok(!told.steps.some(({ step }) => step === 'route' || step === 'ttl'), JSON.stringify(told.steps));
    const large = await json(pod.address, other.address, '--size', '1500', '--df');
    assert.deepEqual([large.exit, large.reason], [1, 'packet-too-big']);

    await node1.namespace.setSysctl('net.ipv4.conf.cni0.forwarding', 0);
    assert.equal((await agreed('a host that does not forward')).verdict, 'delivered');
    await node1.namespace.setSysctl('net.ipv4.conf.cni0.forwarding', 1);

    const rule = ['FORWARD', '-i', 'cni0', '-o', 'cni0', '-s', pod.address, '-d', other.address, '-j', 'DROP'];
    await node1.namespace.exec('iptables', ['-I', ...rule]);
    const setting = 'net.bridge.bridge-nf-call-iptables';
    const { status: unknown } = await node1.namespace.exec('sysctl', [setting], { allowFailure: true });
    if (unknown !== 0) {
      t.diagnostic('this kernel has no br_netfilter loaded: only tried without');
      assert.equal((await agreed('without br_netfilter')).verdict, 'delivered');
      return;
    }
    for (const [all, own] of [
      ['1', '0'],
      ['0', '0'],
      ['0', '1'],
    ]) {
      await node1.namespace.setSysctl(setting, all);
      await node1.namespace.ip(`link set cni0 type bridge nf_call_iptables ${own}`);
      const { verdict } = await agreed(`bridge-nf-call-iptables ${all}, that of cni0 ${own}`);
      assert.equal(verdict, all === '1' || own === '1' ? 'dropped' : 'delivered');
    }
  });

  test('refuses what is no address, and says when no agent runs', async () => {
    const bad = await run(node1, '10.5.1', '10.5.2.3');
    assert.deepEqual([bad.status, bad.stderr], [2, "flannelctl: source '10.5.1': expected an IPv4 address\n"]);
    assert.equal((await run(node1, '10.5.2.3', '--port', '80')).status, 2);
    const absent = await run(node1, '10.5.2.3', '--socket', '/run/no-such.sock');
    assert.deepEqual([absent.status, absent.stderr.split('\n').length], [1, 2]);
  });
});
