/** `flannelctl probe` in a lab of three nodes: on a sound network, then with every fault of the lab, and when etcd is gone. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { EtcdGateway } from '../../../src/lab/etcd-gateway.js';
import { CLIENT_SOCKET } from '../../../src/lab/etcd-server.js';
import { Lab } from '../../../src/lab/lab.js';
import { LAB_PREFIX } from '../../../src/lab/plan.js';
import { placeFolder } from '../../../src/lab/state.js';
import type { StatusAnswer } from '../../../src/observe/control-protocol.js';
import type { Hop, MeshProbeAnswer, PacketProbeAnswer } from '../../../src/observe/probe-protocol.js';
import { until } from '../../harness/until.js';
import { flannelctlOn, labCommand, labName, labStatus, sweepLabs } from '../../support/labs.js';

const name = labName('probe');
const POD2 = '10.244.1.2';
const POD3 = '10.244.2.2';
const WITHIN_MS = 90_000;

interface Outcome<Answer> {
  readonly status: number | null;
  readonly answer: Answer;
}

const on = (node: string, ...args: string[]): ReturnType<typeof flannelctlOn> => flannelctlOn(name, node, ...args);

async function probe(node: string, ...args: string[]): Promise<Outcome<PacketProbeAnswer>> {
  const { status, stdout, stderr } = await on(node, 'probe', '--json', '--timeout', '2', ...args);
  assert.equal(stderr, '');
  const answer = JSON.parse(stdout) as PacketProbeAnswer;
  // What holds of every answer: the exit status, and a cause exactly where there is something to explain.
  assert.equal(status, answer.reached ? 0 : 1, stdout);
  assert.equal(answer.likelyCause === null, answer.reached, stdout);
  return { status, answer };
}

/** Probes until the answer is what it should be: an agent learns of some things a moment later, and machines are slow. */
async function finds(
  what: string,
  node: string,
  args: readonly string[],
  right: (answer: PacketProbeAnswer) => boolean,
): Promise<PacketProbeAnswer> {
  let last: PacketProbeAnswer | undefined;
  return until(
    `probe on ${node}: ${what}`,
    async () => {
      last = (await probe(node, ...args)).answer;
      return right(last) ? last : undefined;
    },
    { withinMs: WITHIN_MS, evidence: () => JSON.stringify(last, null, 1) },
  );
}

async function mesh(what: string, node: string, right: (answer: MeshProbeAnswer) => boolean): Promise<MeshProbeAnswer> {
  let last: MeshProbeAnswer | undefined;
  return until(
    `mesh of ${node}: ${what}`,
    async () => {
      const { status, stdout, stderr } = await on(node, 'probe', '--mesh', '--json');
      assert.equal(stderr, '');
      last = JSON.parse(stdout) as MeshProbeAnswer;
      assert.equal(status, last.reached ? 0 : 1);
      return right(last) ? last : undefined;
    },
    { withinMs: WITHIN_MS, evidence: () => JSON.stringify(last, null, 1) },
  );
}

const way = ({ hops }: PacketProbeAnswer): string =>
  hops.map(({ node, point }: Hop) => `${node.split('.')[3]} ${point}`).join(', ');
const WHOLE_WAY =
  '11 sent, 11 encapsulated, 12 received, 12 delivered, 12 reply-encapsulated, 11 reply-received, 11 reply-delivered';
const causeIs = (pattern: RegExp) => (answer: PacketProbeAnswer) => pattern.test(answer.likelyCause ?? '');

async function status(node: string): Promise<StatusAnswer> {
  return JSON.parse((await on(node, 'status', '--json')).stdout) as StatusAnswer;
}

describe('probe', () => {
  let store: EtcdGateway;

  before(async () => {
    await sweepLabs();
    const { status: ended, stderr } = await labCommand('up', '--name', name, '--nodes', '3', '--pods', '1');
    assert.equal(ended, 0, stderr);
    store = new EtcdGateway(join(placeFolder(name, (await Lab.open(name)).plan.etcd.name), CLIENT_SOCKET));
  });
  after(sweepLabs);

  const keysOfProbes = async (): Promise<number> => {
    const begin = `${LAB_PREFIX}/probes/`;
    const [key, end] = [begin, `${begin.slice(0, -1)}0`].map((text) => Buffer.from(text).toString('base64'));
    const answer = await store.call('/v3/kv/range', { key, range_end: end, count_only: true });
    return Number(answer.count ?? 0);
  };

  test('follows a packet and its answer over every hop, and leaves nothing in the store', async () => {
    const found = await finds('the whole way', 'node1', [POD2], (answer) => way(answer) === WHOLE_WAY);
    assert.equal(found.answer, 'echo-reply');
    assert.equal(found.source, '10.244.0.1');
    assert.ok(found.roundTripMs !== null && found.roundTripMs > 0);
    assert.deepEqual(
      found.hops.map(({ verdict }) => verdict),
      ['sent', 'forwarded', 'received', 'delivered', 'forwarded', 'received', 'delivered'],
    );
    await until('nothing is left', async () => (await keysOfProbes()) === 0);
    assert.ok(((await status('node2')).probes?.followed ?? 0) >= 1);
    assert.equal((await status('node3')).probes?.followed, 0, 'whom it does not concern, it does not trouble');
  });

  test('knows what answers datagrams and SYNs, from a pod that is named, in numbers and sizes', async () => {
    const wholeWay = (answer: PacketProbeAnswer) => way(answer) === WHOLE_WAY;
    const tcp = ['--protocol', 'tcp', '--port', '81', '--from', '10.244.0.2'];
    const many = ['--count', '5', '--size', '4000'];
    const [closed, refused, large] = await Promise.all([
      finds('a closed port', 'node1', [POD2, '--protocol', 'udp'], wholeWay),
      finds('a RST', 'node1', [POD2, ...tcp], wholeWay),
      finds('five, in fragments', 'node1', [POD2, ...many], ({ answered }) => answered === 5),
    ]);
    assert.equal(closed.answer, 'port-unreachable');
    assert.equal(refused.answer, 'rst');
    assert.equal(large.sent, 5);
    const { stdout } = await on('node1', 'probe', POD2);
    assert.match(stdout, /^ {2}192\.168\.\d+\.12 +received +from 192\.168\.\d+\.11:8285$/m);
    assert.match(stdout, /FORWARD rules are not on the way/);
  });

  test('names what has no pod, no lease, or no room', async () => {
    const tooLarge = ['--size', '1473', '--df'];
    const [unleased] = await Promise.all([
      finds('no lease', 'node1', ['10.244.77.7'], causeIs(/no node leases the subnet/)),
      finds('no pod', 'node1', ['10.244.1.77'], causeIs(/there is no 10\.244\.1\.77/)),
      finds('no room', 'node1', [POD2, ...tooLarge], causeIs(/1473 bytes do not fit into flannel0/)),
    ]);
    assert.equal(unleased.hops.at(-1)?.reason, 'no-lease');
  });

  test('refuses in one line what it cannot follow', async () => {
    const refused: readonly (readonly [args: string[], status: number, line: RegExp])[] = [
      [['10.244.0.2'], 1, /in this node's own subnet/],
      [['192.0.2.1'], 1, /outside of the Network 10\.244\.0\.0\/16/],
      [[POD2, '--from', '10.244.2.2'], 1, /neither in this node's lease .* nor this host's own/],
      [['pod2a'], 2, /expected an IPv4 address/],
      [[], 2, /expected the address of a pod/],
      [[POD2, '--mesh'], 2, /takes no destination/],
      [['--mesh', '--count', '3'], 2, /--count does not go with --mesh/],
      [[POD2, '--port', '80'], 2, /--port needs --protocol tcp or udp/],
      [[POD2, '--count', '1000'], 2, /expected a whole number from 1 to 100/],
    ];
    await Promise.all(
      refused.map(async ([args, expected, line]) => {
        const { status: ended, stdout, stderr } = await on('node1', 'probe', ...args);
        assert.equal(ended, expected, args.join(' '));
        assert.equal(stdout, '');
        assert.match(stderr, line);
        assert.equal(stderr.split('\n').length, 2);
      }),
    );
  });

  test('measures every node with every node', async () => {
    const found = await mesh('all of it', 'node1', ({ reached }) => reached);
    assert.equal(found.nodes.length, 3);
    for (const { reports, peers } of found.nodes) {
      assert.equal(reports, true);
      assert.equal(peers.length, 2);
    }
    await mesh('the path MTU', 'node2', ({ nodes }) =>
      nodes.every(({ peers }) => peers.length === 2 && peers.every((peer) => peer.pathMtuBytes === 1500)),
    );
  });

  test('garbage under the prefix is passed over and counted, and hurts nobody', async () => {
    const before = (await status('node2')).probes?.ignored ?? 0;
    const garbage: readonly (readonly [key: string, value: string])[] = [
      ['calls/nonsense', 'x'],
      ['calls/0123456789abcdef', '{"kind":"packet"}'],
      ['calls/', ''],
      ['calls/ffffffffffffffff', 'x'.repeat(100_000)],
      ['reports/0123456789abcdef/192.0.2.1/here', '{}'],
      ['elsewhere', 'y'],
    ];
    for (const [key, value] of garbage) await store.put(`${LAB_PREFIX}/probes/${key}`, value);
    await until('four are counted', async () => ((await status('node2')).probes?.ignored ?? 0) >= before + 4);
    await finds('the whole way all the same', 'node1', [POD2], (answer) => way(answer) === WHOLE_WAY);
    assert.equal((await status('node2')).store.skippedEntries, 0);
    await store.delete(`${LAB_PREFIX}/probes/`, { prefix: true });
  });

  describe('with the faults of the lab', () => {
    const heal = async (): Promise<void> => {
      assert.equal((await labCommand('heal', '--name', name)).stdout, 'all faults are gone\n');
    };
    const breakIt = async (...args: string[]): Promise<void> => {
      const { status: ended, stderr } = await labCommand('break', '--name', name, ...args);
      assert.equal(ended, 0, stderr);
    };

    test('firewall: it names the two nodes that it is between, from either side', async (t) => {
      t.after(heal);
      await breakIt('firewall', '--node', 'node2', '--peer', 'node1');
      const eaten = /^between 192\.168\.\d+\.11 and 192\.168\.\d+\.12: a firewall eats UDP 8285/;
      const back = /^between 192\.168\.\d+\.12 and 192\.168\.\d+\.11: a firewall eats UDP 8285/;
      const [matrix, found] = await Promise.all([
        mesh('the hole', 'node3', ({ reached, nodes }) => !reached && nodes.every((one) => one.reports)),
        finds('the firewall', 'node1', [POD2], causeIs(eaten)),
        finds('the firewall', 'node2', ['10.244.0.2'], causeIs(back)),
        finds('nothing', 'node3', [POD2], ({ reached }) => reached),
      ]);
      assert.equal(way(found), '11 sent, 11 encapsulated');
      const deaf = matrix.nodes.flatMap(({ node, peers }) =>
        peers
          .filter(({ answered }) => answered === 0)
          .map((peer) => `${node.split('.')[3]} ${peer.node.split('.')[3]}`),
      );
      assert.deepEqual(deaf, ['11 12', '12 11']);
    });

    test('mtu: large packets are lost where small ones pass', async (t) => {
      t.after(heal);
      await breakIt('mtu');
      const narrow = /^between 192\.168\.\d+\.11 and 192\.168\.\d+\.12: the path is too narrow: .*; 1400 bytes fit/;
      await Promise.all([
        finds('small ones', 'node1', [POD2], ({ reached }) => reached),
        finds('the narrow path', 'node1', [POD2, '--size', '1472', '--df'], causeIs(narrow)),
        mesh('the narrow path', 'node1', ({ nodes }) =>
          nodes.some(({ peers }) => peers.some(({ pathMtuBytes }) => pathMtuBytes === 1400)),
        ),
      ]);
    });

    test('node-down', async (t) => {
      t.after(heal);
      await breakIt('node-down', '--node', 'node3');
      const silent = /^192\.168\.\d+\.13 does not answer on the underlay at all/;
      const [matrix] = await Promise.all([
        mesh('the row that is missing', 'node1', ({ reached }) => !reached),
        finds('the node', 'node1', [POD3], causeIs(silent)),
      ]);
      assert.equal(matrix.nodes.find(({ node }) => node.endsWith('.13'))?.reports, false);
    });

    test('stolen-lease', async (t) => {
      t.after(heal);
      await breakIt('stolen-lease');
      const stolen =
        /^the lease of 10\.244\.1\.0\/24 sends packets to 192\.168\.\d+\.99, but 192\.168\.\d+\.12 is the node/;
      await finds('the thief', 'node1', [POD2], causeIs(stolen));
    });

    test('rp-filter, which pods do not notice, and limit, which single packets do not', async (t) => {
      t.after(heal);
      await breakIt('rp-filter');
      await breakIt('limit');
      await finds('all is well', 'node1', [POD2], (answer) => way(answer) === WHOLE_WAY);
    });
  });

  test('names the rule behind the other agent, and the route past its own', async () => {
    const lab = await Lab.open(name);
    const rule = ['FORWARD', '-d', POD2, '-j', 'DROP'];
    const route = ['10.244.2.0/24', 'dev', 'eth0'];
    await lab.exec('node2', 'iptables', ['-I', ...rule]);
    await lab.exec('node1', 'ip', ['route', 'add', ...route]);
    try {
      const [found] = await Promise.all([
        finds('the rule', 'node1', [POD2], causeIs(/^the kernel of .*\.12 drops it .*DROP.*\(firewall\)$/)),
        finds('the route', 'node1', [POD3], causeIs(/did not come into flannel0/)),
      ]);
      assert.deepEqual(found.hops.at(-1)?.point, 'kernel');
      assert.deepEqual(found.hops.at(-1)?.reason, 'firewall');
    } finally {
      await lab.exec('node2', 'iptables', ['-D', ...rule]);
      await lab.exec('node1', 'ip', ['route', 'delete', ...route]);
    }
  });

  test('a daemon that is gone, and an etcd that is: what can still be told', async () => {
    const { nodes, etcd } = await labStatus(name);
    process.kill(nodes[2].flanneld.pid ?? assert.fail('node3 has no daemon'), 'SIGKILL');
    await finds('no daemon', 'node1', [POD3], causeIs(/^no flanneld listens at 192\.168\.\d+\.13/));
    process.kill(etcd.pid ?? assert.fail('there is no etcd'), 'SIGKILL');
    const isAway = ({ notes }: { readonly notes: readonly string[] }) =>
      notes.some((note) => /etcd is away/.test(note));
    const [found, matrix] = await Promise.all([
      finds('without etcd', 'node1', [POD2], isAway),
      mesh('its own row', 'node1', isAway),
    ]);
    assert.equal(found.reached, true);
    assert.deepEqual(way(found), '11 sent, 11 encapsulated, 12 unreported, 11 reply-received, 11 reply-delivered');
    assert.equal(matrix.reached, false);
    assert.deepEqual(
      matrix.nodes.filter(({ reports }) => reports).map(({ node }) => node.split('.')[3]),
      ['11'],
    );
  });
});
