/** Networks and subnets of every size that a configuration may ask for, with pods that talk in them. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { Cluster } from '../../harness/cluster.js';
import { ping } from '../../harness/ping.js';
import { until } from '../../harness/until.js';

interface Shape {
  readonly config: object;
  /** FLANNEL_NETWORK, and the form of FLANNEL_SUBNET. */
  readonly network: string;
  readonly subnet: RegExp;
}

const SHAPES: Record<string, Shape> = {
  'the smallest: /30 in a /28': {
    config: { Network: '10.77.0.0/28' },
    network: '10.77.0.0/28',
    subnet: /^10\.77\.0\.(5|9|13)\/30$/,
  },
  'dense: /30 in a /8': {
    config: { Network: '10.0.0.0/8', SubnetLen: 30 },
    network: '10.0.0.0/8',
    subnet: /^10\.\d+\.\d+\.\d+\/30$/,
  },
  'few and large: /10 in a /8': {
    config: { Network: '10.0.0.0/8', SubnetLen: 10 },
    network: '10.0.0.0/8',
    subnet: /^10\.(64|128|192)\.0\.1\/10$/,
  },
  'across octets: /21 in a /12, of which two are given out': {
    config: { Network: '172.16.0.0/12', SubnetLen: 21, SubnetMin: '172.18.8.0', SubnetMax: '172.18.16.0' },
    network: '172.16.0.0/12',
    subnet: /^172\.18\.(8|16)\.1\/21$/,
  },
  'a Network written with host bits': {
    config: { Network: '10.5.7.9/16' },
    network: '10.5.0.0/16',
    subnet: /^10\.5\.\d+\.1\/24$/,
  },
};

describe('a network', () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await Cluster.create('shapes', { nodes: 2, config: null });
  });
  after(() => cluster?.dispose());
  afterEach(async () => {
    await cluster.stopAll();
    for (const { namespace } of cluster.nodes) {
      const links = await namespace.ip('-o link show');
      for (const [, device] of links.matchAll(/^\d+: (flannel\d+|cni-\d+):/gm))
        await namespace.ip(`link del ${device}`);
    }
  });

  for (const [index, [what, { config, network, subnet }]] of Object.entries(SHAPES).entries()) {
    test(what, async () => {
      const prefix = `/shape/${index}`;
      const bridge = `cni-${index}`;
      await cluster.putConfig(config, prefix);
      const [from, to] = await Promise.all(
        cluster.nodes.map(async (node) => {
          const flags = [`--etcd-prefix=${prefix}`, `--subnet-file=${node.folder}/shape-${index}.env`];
          const daemon = await node.start(flags);
          assert.equal(daemon.subnetEnv.FLANNEL_NETWORK, network);
          assert.match(daemon.subnetEnv.FLANNEL_SUBNET, subnet);
          return node.addPod(daemon, bridge);
        }),
      );
      await until('the pods reach each other', async () => {
        return (await ping(from.namespace, to.address, { count: 1, waitSeconds: 1 })).received === 1;
      });
      assert.equal((await ping(to.namespace, from.address)).received, 3);
      const { backend } = await cluster.nodes[0].running.status();
      assert.ok((backend?.table.memoryBytes ?? Infinity) < 128 * 2 ** 20, `${backend?.table.memoryBytes} bytes`);
    });
  }
});
