/** `--ip-masq` and `--iptables-forward-rules`, with iptables and with nftables, as traffic sees them. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Cluster, OUTSIDE_ADDRESS, type ClusterNode, type Pod } from '../../harness/cluster.js';
import { ping } from '../../harness/ping.js';
import { sendTcp, withTcpServer } from '../../harness/traffic.js';
import { until } from '../../harness/until.js';

/** What differs between the two tools. */
interface Tool {
  readonly config: object;
  /** All rules as text. */
  rules(node: ClusterNode): Promise<string>;
  /** Takes away what makes pods masqueraded. */
  deleteMasquerade(node: ClusterNode): Promise<void>;
  readonly isMasquerading: RegExp;
  /** Adds rules of an administrator's: before, beside and in flannel's. */
  addForeign(node: ClusterNode): Promise<void>;
  readonly foreign: readonly RegExp[];
}

const iptables: Tool = {
  config: { Network: '10.5.0.0/16' },
  async rules(node) {
    const tables = ['nat', 'filter'].map((table) => node.namespace.exec('iptables', ['-t', table, '-S']));
    return (await Promise.all(tables)).map(({ stdout }) => stdout).join('');
  },
  async deleteMasquerade(node) {
    await node.namespace.exec('iptables', ['-t', 'nat', '-F', 'FLANNEL-POSTRTG']);
  },
  isMasquerading: /-A FLANNEL-POSTRTG -s 10\.5\.0\.0\/16 ! -d 224\.0\.0\.0\/4 .*-j MASQUERADE --random-fully/,
  async addForeign(node) {
    const foreign = ['-t nat -A POSTROUTING -s 198.51.100.1/32 -j ACCEPT', '-A FORWARD -s 198.51.100.2/32 -j DROP'];
    for (const rule of foreign) await node.namespace.exec('iptables', rule.split(' '));
    await node.namespace.exec('iptables', '-A FLANNEL-FWD -s 198.51.100.3/32 -j DROP'.split(' '));
  },
  foreign: [
    /-A POSTROUTING -s 198\.51\.100\.1\/32 -j ACCEPT/,
    /-A FORWARD -s 198\.51\.100\.2\/32 -j DROP/,
    /-A FLANNEL-FWD -s 198\.51\.100\.3\/32 -j DROP/,
  ],
};

const nftables: Tool = {
  config: { Network: '10.5.0.0/16', EnableNFTables: true },
  async rules(node) {
    return (await node.namespace.exec('nft', ['list', 'ruleset'])).stdout;
  },
  async deleteMasquerade(node) {
    await node.namespace.exec('nft', ['flush', 'chain', 'ip', 'flannel-ipv4', 'postrtg']);
  },
  isMasquerading: /ip saddr 10\.5\.0\.0\/16 ip daddr != 224\.0\.0\.0\/4 .*masquerade fully-random/,
  async addForeign(node) {
    const rules = [
      'add table ip mine',
      'add chain ip mine postrouting { type nat hook postrouting priority 90 ; }',
      'add rule ip mine postrouting ip saddr 198.51.100.1 accept',
      'add rule ip flannel-ipv4 forward ip saddr 198.51.100.3 drop',
    ];
    for (const rule of rules) await node.namespace.exec('nft', rule.split(' '));
  },
  foreign: [/ip saddr 198\.51\.100\.1 accept/, /ip saddr 198\.51\.100\.3 drop/],
};

for (const [name, tool] of Object.entries({ iptables, nftables })) {
  describe(`with ${name}`, () => {
    let cluster: Cluster;
    let node1: ClusterNode;
    let pod1: Pod, pod2: Pod;
    const FLAGS = ['--ip-masq', '--iptables-resync=1'];

    before(async () => {
      cluster = await Cluster.create(name, { nodes: 2, config: tool.config });
      // As Docker does.
      for (const { namespace } of cluster.nodes) await namespace.exec('iptables', ['-P', 'FORWARD', 'DROP']);
      await cluster.startAll(FLAGS);
      node1 = cluster.nodes[0];
      [pod1, pod2] = cluster.pods;
    });
    after(() => cluster?.dispose());

    const reaches = async (): Promise<boolean> =>
      (await ping(pod1.namespace, pod2.address, { count: 1, waitSeconds: 1 })).received === 1;

    const seenOutside = (): Promise<string> =>
      withTcpServer(cluster.outside, 5000, async (server) => {
        const { error } = await sendTcp(pod1.namespace, OUTSIDE_ADDRESS, 5000, 1000);
        assert.equal(error, undefined);
        return (await server.has(1))[0].peer;
      });

    if (name === 'iptables') {
      test('pods reach each other though the policy of FORWARD is DROP', async () => {
        await until('pods reach each other', reaches);
      });
    } else {
      test('pods reach each other', async () => {
        // The accept of one table does not override the DROP of another's policy.
        for (const { namespace } of cluster.nodes) await namespace.exec('iptables', ['-P', 'FORWARD', 'ACCEPT']);
        await until('pods reach each other', reaches);
      });
    }

    test("the outside sees a pod with its node's address", async () => {
      assert.equal(await seenOutside(), node1.address);
      assert.equal((await ping(pod1.namespace, OUTSIDE_ADDRESS)).received, 3);
    });

    test('pods see each other, and hosts that call them, with their own addresses', async () => {
      await withTcpServer(pod2.namespace, 5000, async (server) => {
        await sendTcp(pod1.namespace, pod2.address, 5000, 1000);
        await sendTcp(node1.namespace, pod2.address, 5000, 1000);
        const [fromPod, fromHost] = await server.has(2);
        assert.equal(fromPod.peer, pod1.address);
        assert.equal(fromHost.peer, pod1.address.replace(/\d+$/, '0'), "the host's address in the overlay");
      });
    });

    test('subnet.env says that this node masquerades', () => {
      assert.equal(node1.running.subnetEnv.FLANNEL_IPMASQ, 'true');
    });

    test('rules that someone deletes come back by the next resync', async () => {
      assert.match(await tool.rules(node1), tool.isMasquerading);
      const putBack = () => node1.running.said(/firewall rules were missing or changed: put back/).length;
      const before = putBack();
      await tool.deleteMasquerade(node1);
      await until('it says that they are back', () => putBack() > before, { evidence: () => node1.running.evidence });
      await until('the rules are back', async () => tool.isMasquerading.test(await tool.rules(node1)));
      assert.equal(await seenOutside(), node1.address);
    });

    test('rules are not added twice, by the resync or by a restart, and others’ rules stay', async () => {
      await tool.addForeign(node1);
      const before = await tool.rules(node1);
      for (const pattern of tool.foreign) assert.match(before, pattern);
      await new Promise((resolve) => setTimeout(resolve, 2_200));
      assert.equal(await tool.rules(node1), before);
      await node1.running.stop();
      assert.equal(await tool.rules(node1), before, 'a stop leaves the rules as a restart needs them');
      await node1.start(FLAGS);
      assert.equal(await tool.rules(node1), before);
      await until('pods reach each other', reaches);
    });

    test('without --ip-masq and forward rules, none are made, and those of the last run go', async () => {
      await node1.running.stop();
      await node1.start(['--iptables-forward-rules=false']);
      const rules = await tool.rules(node1);
      assert.doesNotMatch(rules, /10\.5\.0\.0\/16/);
      for (const pattern of tool.foreign) assert.match(rules, pattern);
      assert.equal(node1.running.subnetEnv.FLANNEL_IPMASQ, 'false');
    });
  });
}

describe('--ip-blackhole-route', () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await Cluster.create('blackhole', { nodes: 1 });
  });
  after(() => cluster?.dispose());

  test('packets for pods that do not exist end on the node, also where no bridge is up', async () => {
    const [node] = cluster.nodes;
    const daemon = await node.start(['--ip-blackhole-route']);
    const subnet = daemon.subnetEnv.FLANNEL_SUBNET.replace(/\.1\//, '.0/');
    await until('the blackhole route is there', async () =>
      (await node.namespace.ip('route show type blackhole')).includes(subnet),
    );
    const before = await daemon.drops('encap', 'own-subnet');
    await ping(node.namespace, subnet.replace(/0\/24$/, '77'), { count: 1, waitSeconds: 0.2 });
    assert.equal(await daemon.drops('encap', 'own-subnet'), before);
  });
});
