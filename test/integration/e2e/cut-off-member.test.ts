/**
 * A store of three members, one of which loses the others and keeps its clients:
 *
 *   192.168.64.0/24 on br0:   member0 .200    member1 .201    member2 .202    node1 .11 (asks all three)
 *
 * A member without the others still accepts connections, and knows nothing that happens.
 */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { silentLogger } from '../../../src/log.js';
import { createEtcdSubnetManager } from '../../../src/subnet/etcd/etcd-subnet-manager.js';
import { formatLeaseKey } from '../../../src/subnet/lease-key.js';
import type { SubnetManager } from '../../../src/subnet/subnet-manager.js';
import { Cluster, PREFIX, type ClusterNode } from '../../harness/cluster.js';
import { EtcdMembers, type MemberPlace } from '../../harness/etcd-members.js';
import { PATIENCE_MS, until } from '../../harness/until.js';

/** The addresses of all members, as a prefix. */
const MEMBERS = '192.168.64.200/30';
const CLIENT_PORT = 2379;

describe('a member of the store that is cut off from the others', () => {
  let cluster: Cluster;
  let members: EtcdMembers;
  let places: Required<MemberPlace>[];
  let node: ClusterNode;
  let written = 0;

  before(async () => {
    cluster = await Cluster.create('cutoff', { nodes: 1 });
    places = await Promise.all([0, 1, 2].map(addMemberPlace));
    members = await EtcdMembers.at(places);
    await members.servers[0].put(`${PREFIX}/config`, '{"Network":"10.5.0.0/16"}');
    node = cluster.nodes[0];
  });
  // One that is started while all members are well is connected to one only.
  beforeEach(async () => {
    await members.lead(members.servers[0]);
    await node.start([`--etcd-endpoints=${members.servers.flatMap(({ endpoints }) => endpoints).join(',')}`]);
  });
  afterEach(() => node.running.stop());
  after(async () => {
    await members?.dispose();
    await cluster?.dispose();
  });

  async function addMemberPlace(number: number): Promise<Required<MemberPlace>> {
    const name = `member${number}`;
    const address = `192.168.64.${200 + number}`;
    const namespace = await cluster.addNamespace(name);
    await cluster.underlay.connect(name, namespace, 'eth0');
    await cluster.underlay.joinBridge(name, 'br0');
    await namespace.addAddress('eth0', `${address}/24`);
    return { address, port: CLIENT_PORT, namespace };
  }

  /** The number of the member that the node is connected to. */
  async function used(): Promise<number> {
    const { stdout } = await node.namespace.exec('ss', ['-Htn', 'state', 'established', `dport = :${CLIENT_PORT}`]);
    const numbers = places.flatMap(({ address }, index) => (stdout.includes(`${address}:`) ? [index] : []));
    assert.equal(numbers.length, 1, stdout);
    return numbers[0];
  }

  async function withoutOthers(number: number, work: () => Promise<void>): Promise<void> {
    const { namespace } = places[number];
    const rules = [
      ['INPUT', '-i', 'eth0', '-s', MEMBERS, '-j', 'DROP'],
      ['OUTPUT', '-o', 'eth0', '-d', MEMBERS, '-j', 'DROP'],
    ];
    for (const rule of rules) await namespace.exec('iptables', ['-I', ...rule]);
    try {
      await work();
    } finally {
      for (const rule of rules) await namespace.exec('iptables', ['-D', ...rule]);
    }
  }

  /** Asks all members, the one with this number first. */
  async function asking<T>(
    number: number,
    ask: (manager: SubnetManager, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const manager = createEtcdSubnetManager({
      endpoints: members.servers.map(({ socketEndpoint }) => socketEndpoint),
      prefix: PREFIX,
      backendTypes: ['udp'],
      logger: silentLogger,
      random: () => (number + 0.5) / members.servers.length,
    });
    try {
      return await ask(manager, AbortSignal.timeout(PATIENCE_MS));
    } finally {
      manager.close();
    }
  }

  for (const role of ['follower', 'leader'] as const) {
    test(`is left for another when it is a ${role}: by watches, reads and writes`, async () => {
      const number = await used();
      const member = members.servers[number];
      const other = members.servers[(number + 1) % members.servers.length];
      await members.lead(role === 'leader' ? member : other);
      await withoutOthers(number, async () => {
        // Before it has noticed itself.
        const read = asking(number, (manager, signal) => manager.networkConfig(signal));
        read.catch(() => undefined);

        await members.leadWithout(member);
        const publicIp = `192.168.64.${100 + ++written}`;
        await other.put(`${PREFIX}/subnets/10.5.250.0-24`, JSON.stringify({ PublicIP: publicIp, PublicIPv6: null }));
        const ownKey = `${PREFIX}/subnets/${node.running.subnetEnv.FLANNEL_SUBNET.replace(/1\/24$/, '0-24')}`;
        await other.delete(ownKey);
        await until(
          'the agent knows the lease that was written on another member',
          async () => (await node.running.ask('/v1/leases')).some((lease) => lease.publicIP === publicIp),
          { evidence: () => node.running.evidence },
        );
        await until('the agent has its own lease back', async () => (await other.get(ownKey)) !== undefined, {
          evidence: () => node.running.evidence,
        });

        const config = await read;
        const request = { publicIp: 0xc0a840c0 + written, publicIpv6: null, backendType: '' };
        const lease = await asking(number, (manager, signal) => manager.acquireLease(config, request, signal));
        assert.ok(await other.get(`${PREFIX}/subnets/${formatLeaseKey(lease)}`));
      });
    });
  }
});
