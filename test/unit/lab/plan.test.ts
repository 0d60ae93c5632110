import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { UsageError } from '../../../src/errors.js';
import { hostsFile, isNamespaceOf, networkConfig, planLab } from '../../../src/lab/plan.js';
import { parseIpv4, prefixContains, prefixesOverlap } from '../../../src/packet/address.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config.js';
import { prefix } from '../../support/addresses.js';

test('the default lab is the exercise: three nodes with the first three subnets, two pods each', () => {
  const plan = planLab({});
  assert.deepEqual(
    plan.nodes.map((node) => [
      node.name,
      node.subnet,
      node.gateway,
      ...node.pods.map((pod) => `${pod.name} ${pod.address}`),
    ]),
    [
      ['node1', '10.244.0.0/24', '10.244.0.1', 'pod1a 10.244.0.2', 'pod1b 10.244.0.3'],
      ['node2', '10.244.1.0/24', '10.244.1.1', 'pod2a 10.244.1.2', 'pod2b 10.244.1.3'],
      ['node3', '10.244.2.0/24', '10.244.2.1', 'pod3a 10.244.2.2', 'pod3b 10.244.2.3'],
    ],
  );
  assert.equal(plan.nodes[1].namespace, 'fl-lab-node2');
  assert.equal(plan.bridge, 'cni0');
  assert.equal(planLab({ runtime: 'docker' }).bridge, 'docker0');
});

test('the underlay keeps clear of this machine and of the overlay', () => {
  assert.equal(planLab({}).underlay.cidr, '192.168.64.0/24');
  assert.equal(planLab({}, [prefix('192.168.64.0/22')]).underlay.cidr, '192.168.68.0/24');
  assert.equal(planLab({ network: '192.168.0.0/16' }).underlay.cidr, '172.30.64.0/24');
});

test('whatever fits makes a lab whose addresses are all different and where they belong', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 99 }),
      fc.integer({ min: 0, max: 26 }),
      fc.integer({ min: 8, max: 24 }),
      fc.nat(0xffff),
      (nodes, podsPerNode, length, seed) => {
        const network = `10.${seed >> 8}.${seed & 255}.0/${length}`;
        let plan;
        try {
          plan = planLab({ nodes, podsPerNode, network });
        } catch (error) {
          assert.ok(error instanceof UsageError);
          return;
        }
        const addresses = [
          plan.etcd.address,
          plan.outside.address,
          plan.outside.world,
          ...plan.nodes.flatMap((node) => [node.address, node.gateway, ...node.pods.map((pod) => pod.address)]),
        ];
        assert.equal(new Set(addresses).size, addresses.length);
        for (const node of plan.nodes) {
          assert.ok(prefixContains(prefix(plan.network), prefix(node.subnet).address));
          for (const pod of node.pods) assert.ok(prefixContains(prefix(node.subnet), parseIpv4(pod.address) ?? 0));
          assert.ok(prefixContains(prefix(plan.underlay.cidr), parseIpv4(node.address) ?? 0));
        }
        assert.ok(!prefixesOverlap(prefix(plan.underlay.cidr), prefix(plan.network)));
        // flanneld takes it, and node1's subnet is one that it would hand out.
        const config = parseNetworkConfig(networkConfig(plan), { backendTypes: ['udp'] });
        assert.equal(config.subnetMin, prefix(plan.nodes[0].subnet).address);
      },
    ),
  );
});

for (const [what, options, pattern] of [
  ['a name with a slash', { name: '../x' }, /--name '..\/x': expected/],
  ['a name that is too long', { name: 'a'.repeat(21) }, /--name/],
  ['no nodes', { nodes: 0 }, /--nodes '0': expected a whole number from 1 to 99/],
  ['too many pods', { podsPerNode: 27 }, /--pods '27'/],
  ['more nodes than subnets', { network: '10.244.0.0/22', nodes: 5 }, /has 4 subnets of \/24: too few for 5 nodes/],
  ['more pods than addresses', { network: '10.244.0.0/26', podsPerNode: 14 }, /too small for 14 pods/],
  ['a network without a length', { network: '10.244.0.0' }, /--network '10.244.0.0': expected a CIDR/],
  ['an unknown backend', { backend: 'pigeon' }, /--backend 'pigeon': expected udp/],
  ['a flanneld for a node that is not there', { flanneld: new Map([['node4', '/x']]) }, /has node1 to node3/],
] as const) {
  test(`refuses ${what}`, () => {
    assert.throws(
      () => planLab(options),
      (error) => error instanceof UsageError && pattern.test(error.message),
    );
  });
}

test('a lab claims its own namespaces and not those of a lab whose name begins alike', () => {
  const plan = planLab({ name: 'a', nodes: 12 });
  for (const node of plan.nodes) {
    assert.ok(isNamespaceOf('a', node.namespace));
    for (const pod of node.pods) assert.ok(isNamespaceOf('a', pod.namespace ?? ''));
  }
  assert.ok(isNamespaceOf('a', plan.underlay.namespace));
  for (const name of ['fl-a-node1-node1', 'fl-a-node1-etcd', 'fl-ab-node1', 'fl-a-other', 'node1', 'x-fl-a-node1']) {
    assert.ok(!isNamespaceOf('a', name), name);
  }
});

test('the hosts file names every machine and pod', () => {
  const text = hostsFile(planLab({ nodes: 2 }));
  for (const line of ['203.0.113.10\toutside', '192.168.64.12\tnode2', '10.244.1.3\tpod2b', '192.168.64.2\tetcd']) {
    assert.ok(text.split('\n').includes(line), line);
  }
});
