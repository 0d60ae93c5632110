/** The way of a packet that arrives on the tunnel's port: through the dataplane and this host's routing to a pod. */
import type { FilterPacket } from '../../host/firewall/ruleset.js';
import type { ExplainAnswer } from '../../observe/control-protocol.js';
import { formatIpv4 } from '../../packet/address.js';
import { PROTOCOL_UDP } from '../../packet/ipv4.js';
import { Account, Dropped } from './account.js';
import type { Explanation, PacketSpec } from './packet-spec.js';
import type { ExplainScene } from './scene.js';

export async function explainDecap(
  spec: PacketSpec & { readonly sender: number },
  scene: ExplainScene,
): Promise<Explanation> {
  const account = new Account();
  const source = spec.source ?? spec.sender;
  let answer: ExplainAnswer | undefined;
  const explanation = (verdict: Explanation['verdict'], reason: string | null): Explanation => ({
    source: formatIpv4(source),
    destination: formatIpv4(spec.destination),
    direction: 'decap',
    verdict,
    reason,
    lease: answer?.source.lease?.subnet ?? null,
    nextHop: null,
    steps: account.steps,
  });
  try {
    await takeDatagram(spec.sender, scene, account);
    answer = await scene.ask(spec, source);
    checkPacket(answer, spec, account);
    await deliver({ ...spec, source, ttl: spec.ttl - 1 }, scene, account);
    return explanation('delivered', null);
  } catch (error) {
    if (error instanceof Dropped) return explanation('dropped', error.reason);
    throw error;
  }
}

async function takeDatagram(sender: number, { host, external, port }: ExplainScene, account: Account): Promise<void> {
  const text = formatIpv4(sender);
  account.pass(
    'sender',
    `the datagram comes from ${text} to ${formatIpv4(external.address)}:${port} on ${external.name}`,
  );
  await account.route(host, { destination: external.address, source: sender, inDevice: external.name });
  const datagram: FilterPacket = {
    source: sender,
    destination: external.address,
    protocol: PROTOCOL_UDP,
    sourcePort: port,
    destinationPort: port,
    inDevice: external.name,
  };
  account.filter(await host.filterRules(), ['prerouting', 'input'], datagram, 'the datagram');
}

function checkPacket(answer: ExplainAnswer, spec: PacketSpec, account: Account): void {
  const { senderIsMember, sourceCheck, source, destination, here } = answer;
  account.pass(
    'sender',
    senderIsMember === true
      ? 'the sender holds a lease, or is trusted'
      : 'the sender holds no lease and is not trusted',
  );
  const entries: Readonly<Record<typeof source.entry, string>> = {
    leased: `is in ${source.lease?.subnet ?? 'a subnet'} of the node at ${source.nextHop ?? ''}`,
    'own-subnet': "is in this node's own subnet",
    'no-lease': 'is in a subnet that no node leases',
    'outside-network': `is outside the Network ${answer.network}`,
  };
  account.pass('table', `the inner source ${source.address} ${entries[source.entry]}`);
  const ours = destination.entry === 'own-subnet';
  account.pass('table', `the inner destination ${destination.address} is ${ours ? '' : 'not '}in ${answer.subnet}`);
  if (here.verdict === 'dropped') {
    const ttl = here.reason === 'ttl-exceeded' ? ` (it comes with a TTL of ${spec.ttl})` : '';
    account.drop(
      'dataplane',
      here.reason ?? 'dropped',
      `the decapsulating worker drops it: ${here.reason}${ttl}, with --source-check=${sourceCheck}`,
    );
  }
  account.pass('dataplane', `the decapsulating worker lets it in, with a TTL of ${spec.ttl - 1}`);
}

async function deliver(
  spec: PacketSpec & { readonly source: number },
  { host, device }: ExplainScene,
  account: Account,
): Promise<void> {
  const { source, destination, protocol, port, ttl } = spec;
  const packet: FilterPacket = { source, destination, protocol, destinationPort: port, inDevice: device };
  const rules = await host.filterRules();
  account.filter(rules, ['prerouting'], packet, 'the packet');
  const route = await account.route(host, { destination, source, inDevice: device });
  if (route.kind !== 'forward') {
    account.filter(rules, ['input'], packet, 'the packet');
    return;
  }
  if (ttl <= 1) account.drop('ttl', 'ttl-exceeded', `this host gets it with a TTL of ${ttl} and forwards no further`);
  if (route.device === device) {
    account.unsure('route', `${device} is where the packet came from: it would go round until its TTL runs out`);
  }
  account.filter(rules, ['forward', 'postrouting'], { ...packet, outDevice: route.device }, 'the packet');
}
