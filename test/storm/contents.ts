/** Whether an agent has what etcd has, lease by lease. */
import type { Chance } from '../simulation/chance.js';
import type { Cluster, ClusterNode } from '../harness/cluster.js';
import { ControlClient } from '../../src/flannelctl/control-client.js';
import { parseLeaseKey } from '../../src/subnet/lease-key.js';
import { formatPrefix } from '../../src/packet/address.js';

/** Places of the forwarding table that are looked at one by one. */
const SAMPLES = 16;

/** The owners by subnet as etcd has them, by what Node's own JSON parser makes of the values. */
async function storedOwners(cluster: Cluster): Promise<Map<string, string>> {
  const contents = new Map<string, string>();
  for (const { key, value } of await cluster.storedLeases()) {
    const lease = parseLeaseKey(key.slice(key.lastIndexOf('/') + 1));
    const owner = ownerOf(value);
    if (lease !== undefined && owner !== undefined) contents.set(formatPrefix(lease.subnet), owner);
  }
  return contents;
}

function ownerOf(value: string): string | undefined {
  try {
    return (JSON.parse(value) as { PublicIP?: string }).PublicIP;
  } catch {
    return undefined;
  }
}

/**
 * What an agent knew otherwise, at the moment of the call, than an etcd that is at rest has it: of each lease what the agent
 * tells on its control socket, of the whole forwarding table the count, and of a sample of it the next hops.
 */
export async function differences(node: ClusterNode, chance: Chance): Promise<string[]> {
  const client = new ControlClient(node.running.controlSocket, { timeoutMs: 30_000 });
  const told = new Map((await client.leases()).map(({ subnet, publicIP }) => [subnet, publicIP]));
  const { backend } = await client.status();
  const stored = await storedOwners(node.cluster);
  const found = [...new Set([...stored.keys(), ...told.keys()])]
    .filter((subnet) => stored.get(subnet) !== told.get(subnet))
    .map((subnet) => `${subnet}: ${stored.get(subnet) ?? 'nobody'} in etcd, ${told.get(subnet) ?? 'nobody'} here`);
  if (backend?.table.leases !== stored.size - 1) {
    found.push(`the forwarding table has ${backend?.table.leases}, etcd ${stored.size} with this node's own`);
  }
  const others = [...stored].filter(([, owner]) => owner !== node.address);
  for (let sample = 0; sample < SAMPLES && others.length > 0; sample++) {
    const [subnet, owner] = chance.oneOf(others);
    const destination = subnet.replace(/0\/.*/, '7');
    const { destination: entry } = await client.explain({ source: node.address, destination });
    if (entry.nextHop !== `${owner}:${backend?.port}`) found.push(`${subnet} goes to ${entry.nextHop}, not ${owner}`);
  }
  return found;
}
