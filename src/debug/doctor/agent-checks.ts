/** The agent itself: whether it runs, what it holds, and what it uses of the kernel. */
import type { WorkerStatus } from '../../backend/status.js';
import type { LeaseAnswer, StatusAnswer } from '../../observe/control-protocol.js';
import { parseIpv4, parsePrefix, prefixContains } from '../../packet/address.js';
import { concernOf } from './concern.js';
import { fail, ok, skip, warn, type Fact, type Finding } from './check.js';
import type { NodeFacts, QueueFacts } from './facts.js';

/** A lease that ends sooner has not been renewed in time: the default margin is an hour. */
const EXPIRY_WARNING_MS = 30 * 60_000;
const NO_ANSWER = 'the agent does not answer';

const START_REMEDY =
  'systemctl start flanneld, or by hand: flanneld --etcd-endpoints=URL; then run doctor again, for most checks need the agent';

/** States of a worker in which it carries nothing, though nobody holds it. */
const NOT_AT_WORK: ReadonlySet<string> = new Set<WorkerStatus['state']>(['failed', 'stopped', 'restarting']);

export function checkAgent({ status }: Pick<NodeFacts, 'status'>): Finding {
  if (!status.known) return fail(status.why, START_REMEDY);
  const { state, reason, version, pid, backend } = status.value;
  const failed = (backend?.workers ?? []).filter((worker) => NOT_AT_WORK.has(worker.state));
  if (failed.length > 0) {
    const names = failed.map(({ name, state: how }) => `${name} ${how}`).join(', ');
    return fail(`packet workers do not run: ${names}`, 'see the log of flanneld; a restart keeps pods and lease');
  }
  const concern = concernOf(status, 'packet-workers');
  if (state === 'ready' && concern !== undefined) {
    return warn(concern.message, concern.remedy, [`since ${concern.since}`]);
  }
  if (state === 'ready') return ok(`flanneld ${version} is ready, pid ${pid}`);
  const why = reason ?? 'it has not said why';
  return fail(
    `flanneld ${version} is not ready (${state}): ${why}`,
    'docs/troubleshooting.md tells what each line means',
  );
}

export function checkLease({ status, nowMs }: Pick<NodeFacts, 'status' | 'nowMs'>): Finding {
  if (!status.known) return skip(NO_ANSWER);
  const { lease, state, reason } = status.value;
  if (lease === undefined) {
    const lost = state === 'lease' && reason !== undefined && status.value.backend !== undefined;
    if (!lost) return fail('this node holds no lease', 'see the check "agent" for what it waits for');
    return fail(reason, 'release a lease that nobody uses, or widen the range: flannelctl leases, network set');
  }
  if (lease.reserved) return ok(`${lease.subnet} is reserved and never expires`);
  if (lease.expires === null) return ok(`${lease.subnet}; its expiry is not known`);
  const leftMs = Date.parse(lease.expires) - nowMs;
  const minutes = Math.round(leftMs / 60_000);
  if (leftMs <= 0) {
    return fail(`the lease of ${lease.subnet} ran out at ${lease.expires}`, 'see the checks "etcd" and "clock"');
  }
  if (leftMs < EXPIRY_WARNING_MS) {
    const remedy = 'see the check "etcd": a renewal is tried every minute from --subnet-lease-renew-margin on';
    return warn(`the lease of ${lease.subnet} ends in ${minutes} min and is not renewed`, remedy);
  }
  return ok(`${lease.subnet}, until ${lease.expires}`);
}

/** Agents that started at different times may run with different configurations. */
export function checkConfiguration({ status }: Pick<NodeFacts, 'status'>): Finding {
  if (!status.known) return skip(NO_ANSWER);
  const concern = concernOf(status, 'configuration');
  if (concern !== undefined) return warn(concern.message, concern.remedy, [`since ${concern.since}`]);
  if (status.value.network === undefined) return skip('there is none yet');
  if (!status.value.store.healthy) return skip('the store does not answer, so whether it was changed is not known');
  return ok('the store has what the agent runs with');
}

/** Other nodes send to the PublicIP; two leases with one mean that one of the two nodes gets what is the other's. */
export function checkPublicIp({ status, leases }: Pick<NodeFacts, 'status' | 'leases'>): Finding {
  if (!leases.known || !status.known) return skip(NO_ANSWER);
  const byAddress = new Map<string, LeaseAnswer[]>();
  for (const lease of leases.value) byAddress.set(lease.publicIP, [...(byAddress.get(lease.publicIP) ?? []), lease]);
  const shared = [...byAddress].filter(([, held]) => held.length > 1);
  const list = shared.map(([address, held]) => `${address} holds ${held.map(({ subnet }) => subnet).join(' and ')}`);
  const remedy =
    'release the lease that is left over (flannelctl leases release SUBNET), or give each node a --public-ip of its own';
  const own = shared.find(([address]) => address === status.value.publicIP);
  const concern = concernOf(status, 'public-ip');
  if (concern !== undefined) return fail(concern.message, concern.remedy, [`since ${concern.since}`, ...list]);
  if (own !== undefined) return fail(`this node's public IP ${own[0]} stands in ${own[1].length} leases`, remedy, list);
  if (shared.length > 0) return warn(`${shared.length} public IPs stand in several leases`, remedy, list);
  const inside = leases.value.filter(({ publicIP }) => isInNetwork(publicIP, status.value.network?.cidr));
  if (inside.length > 0) {
    return warn(
      `${inside.length} public IPs lie inside the Network: nothing is forwarded to them, for the tunnel would lead into itself`,
      'give those nodes a --public-ip of the underlay',
      inside.map(({ subnet, publicIP }) => `${publicIP} holds ${subnet}`),
    );
  }
  return ok(`${leases.value.length} leases, each with a public IP of its own`);
}

function isInNetwork(publicIp: string, cidr: string | undefined): boolean {
  const network = cidr === undefined ? undefined : parsePrefix(cidr);
  const address = parseIpv4(publicIp);
  return network !== undefined && address !== undefined && prefixContains(network, address);
}

export function checkOffloads({ status }: Pick<NodeFacts, 'status'>): Finding {
  if (!status.known || status.value.backend === undefined) return skip('no dataplane runs');
  const { offloads } = status.value.backend;
  const on = offloads.filter(({ state }) => state === 'on').map(({ name }) => name);
  const evidence = offloads
    .filter(({ reason }) => reason !== undefined)
    .map(({ name, state, reason }) => `${name} is ${state}: ${reason}`);
  const given = offloads.filter(({ stepDowns }) => stepDowns > 0);
  if (given.length > 0) {
    const names = given.map(({ name, stepDowns }) => `${name} (${stepDowns} times)`).join(', ');
    const remedy = 'packets flow, only slower; the log says what the kernel or a device refused';
    return warn(`given up while packets flowed: ${names}`, remedy, evidence);
  }
  return ok(on.length === 0 ? 'none are in use' : `in use: ${on.join(', ')}`, evidence);
}

/** Lost packets that are fewer than this share are a burst long ago. */
const NOTABLE_LOSS = 0.001;

export function checkBuffers({ status, queues }: Pick<NodeFacts, 'status' | 'queues'>): Finding {
  if (!queues.known) return skip(queues.why);
  const { socketDrops, deviceDrops, dropsWhileLooking } = queues.value;
  const backend = status.known ? status.value.backend : undefined;
  const evidence = [
    `the tunnel's socket: ${socketDrops} datagrams lost, ${backend?.decap.packets ?? 0} delivered`,
    `${backend?.device ?? 'the overlay device'}: ${deviceDrops} packets lost, ${backend?.encap.packets ?? 0} forwarded`,
  ];
  const remedy =
    'more --workers, or fewer packets: is a processor busy (top)? ' +
    'net.core.rmem_max of 4194304 or more lets the socket have the buffer it asks for';
  if (dropsWhileLooking > 0) return fail(`${dropsWhileLooking} packets found no room just now`, remedy, evidence);
  if (isNotable(queues, backend)) return warn('more than one packet in 1,000 found no room', remedy, evidence);
  return ok(socketDrops + deviceDrops === 0 ? 'no packet was lost for want of room' : 'next to none lost', evidence);
}

function isNotable(queues: Extract<Fact<QueueFacts>, { known: true }>, backend: StatusAnswer['backend']): boolean {
  const { socketDrops, deviceDrops } = queues.value;
  const { encap, decap } = backend ?? { encap: { packets: 0 }, decap: { packets: 0 } };
  return socketDrops > NOTABLE_LOSS * decap.packets || deviceDrops > NOTABLE_LOSS * encap.packets;
}
