/** The packet filter: whether it lets the tunnel and the pods' packets pass, and masquerades what it should. */
import { filterAt, type FilterOutcome, type FilterPacket, type Hook } from '../../host/firewall/ruleset.js';
import { parseIpv4, parsePrefix, prefixContains } from '../../packet/address.js';
import { PROTOCOL_TCP, PROTOCOL_UDP } from '../../packet/ipv4.js';
import { fail, ok, skip, warn, type Finding } from './check.js';
import type { NodeFacts } from './facts.js';

/** Nodes whose packets are held against the rules; those of the others fare alike. */
const PEERS_TRIED = 32;
/** Somebody outside (TEST-NET-2 and TEST-NET-3 of RFC 5737, the first that is not in the Network). */
const OUTSIDE = ['198.51.100.1', '203.0.113.1'];

type FirewallFacts = Pick<NodeFacts, 'status' | 'leases' | 'interfaces' | 'filterRules' | 'subnetFile'>;

interface Trial {
  readonly what: string;
  readonly hook: Hook;
  readonly packet: FilterPacket;
}

export function checkTunnelRules(facts: FirewallFacts): Finding {
  const scene = sceneOf(facts);
  if (typeof scene === 'string') return skip(scene);
  const { external, port } = scene;
  const ports = { protocol: PROTOCOL_UDP, sourcePort: port, destinationPort: port };
  const trials = scene.peers.flatMap(({ address, publicIP }): Trial[] => {
    const incoming = { source: address, destination: external.address, ...ports, inDevice: external.name };
    const outgoing = { source: external.address, destination: address, ...ports, outDevice: external.name };
    const arriving = `datagrams from ${publicIP}`;
    return [
      { what: arriving, hook: 'prerouting', packet: incoming },
      { what: arriving, hook: 'input', packet: incoming },
      { what: `datagrams to ${publicIP}`, hook: 'output', packet: outgoing },
    ];
  });
  if (trials.length === 0) return skip('no other node holds a lease');
  return judge(facts, trials, `a rule of this host eats UDP ${port}`, `UDP ${port} passes both ways`);
}

export function checkForwardRules(facts: FirewallFacts): Finding {
  const scene = sceneOf(facts);
  if (typeof scene === 'string') return skip(scene);
  const { pod, bridge, device } = scene;
  const trials = scene.peers.flatMap(({ pod: other }): Trial[] => {
    const protocol = { protocol: PROTOCOL_TCP, destinationPort: 80 };
    return [
      {
        what: 'packets from pods here to pods elsewhere',
        hook: 'forward',
        packet: { source: pod, destination: other, ...protocol, inDevice: bridge, outDevice: device },
      },
      {
        what: 'packets from pods elsewhere to pods here',
        hook: 'forward',
        packet: { source: other, destination: pod, ...protocol, inDevice: device, outDevice: bridge },
      },
    ];
  });
  if (trials.length === 0) return skip('no other node holds a lease');
  return judge(facts, trials, 'a rule of this host eats forwarded packets', 'packets of pods are forwarded both ways');
}

export function checkMasquerade(facts: FirewallFacts): Finding {
  const scene = sceneOf(facts);
  if (typeof scene === 'string') return skip(scene);
  if (!facts.filterRules.known) return skip(facts.filterRules.why);
  const { pod, device, external, network } = scene;
  const outside = OUTSIDE.map((text) => parseIpv4(text) ?? 0).find((address) => !prefixContains(network, address));
  const translates = (packet: Omit<FilterPacket, 'protocol'>): FilterOutcome['touches'] =>
    filterAt(facts.filterRules.known ? facts.filterRules.value : [], 'postrouting', {
      protocol: PROTOCOL_TCP,
      destinationPort: 80,
      ...packet,
    }).touches.filter(({ does, certain }) => certain && (does === 'masquerade' || does === 'snat'));
  for (const { pod: other } of scene.peers) {
    const [rule] = translates({ source: pod, destination: other, outDevice: device });
    if (rule === undefined) continue;
    return warn(
      'pods elsewhere see this node instead of the pod that calls',
      'take that rule away; with Docker, start it with --ip-masq=false, as flannelctl docker-opts writes',
      [`\`${rule.rule}\` in ${rule.chain}`],
    );
  }
  const wanted = facts.subnetFile.known ? facts.subnetFile.value.ipMasq : undefined;
  if (wanted !== true) return ok('not asked for (--ip-masq), and pods see each other’s own addresses');
  const [rule] = translates({ source: pod, destination: outside ?? 0, outDevice: external.name });
  if (rule === undefined) {
    return fail(
      '--ip-masq is on, but nothing masquerades what pods send to the outside',
      'flanneld puts its rules back within --iptables-resync seconds; if they stay away, its log says why',
    );
  }
  return ok('pods reach the outside with the address of this node', [`\`${rule.rule}\` in ${rule.chain}`]);
}

/** Holds packets against the rules; the first that is dropped for sure, or else that may be, decides. */
function judge(facts: FirewallFacts, trials: readonly Trial[], trouble: string, fine: string): Finding {
  if (!facts.filterRules.known) return skip(facts.filterRules.why);
  const doubts: string[] = [];
  for (const { what, hook, packet } of trials) {
    const { verdict, touches } = filterAt(facts.filterRules.value, hook, packet);
    if (verdict === 'pass') continue;
    const rule = touches.findLast(({ does }) => does === 'drop' || does === 'reject');
    const line = `${what}, at ${hook}: \`${rule?.rule ?? '?'}\` in ${rule?.chain ?? '?'}`;
    if (verdict === 'drop') {
      return fail(`${trouble}: \`${rule?.rule ?? '?'}\``, `take the rule away, or accept before it`, [line]);
    }
    if (!doubts.includes(line)) doubts.push(line);
  }
  if (doubts.length === 0) return ok(fine);
  return warn(
    `${trouble}, perhaps: it depends on the packet`,
    'look at the rule; the checks "tunnel" and "peers" try it',
    doubts,
  );
}

interface Scene {
  readonly device: string;
  readonly port: number;
  readonly bridge: string;
  readonly network: { readonly address: number; readonly length: number };
  readonly external: { readonly name: string; readonly address: number };
  /** An address of a pod here, whether there is such a pod or not. */
  readonly pod: number;
  readonly peers: readonly { readonly publicIP: string; readonly address: number; readonly pod: number }[];
}

/** What the packets are made of, or why there can be none. */
function sceneOf({ status, leases, interfaces }: FirewallFacts): Scene | string {
  if (!status.known || !leases.known) return 'the agent does not answer';
  if (!interfaces.known) return interfaces.why;
  const { backend, network, lease, interface: external } = status.value;
  const subnet = parsePrefix(lease?.subnet ?? '');
  const prefix = parsePrefix(network?.cidr ?? '');
  if (backend === undefined || external === undefined || subnet === undefined || prefix === undefined) {
    return 'no dataplane runs, or this node holds no lease';
  }
  const bridge = interfaces.value.find(
    ({ name, addresses }) =>
      name !== backend.device && addresses.some(({ address }) => prefixContains(subnet, address)),
  );
  const peers = leases.value
    .filter(({ own }) => !own)
    .slice(0, PEERS_TRIED)
    .map(({ publicIP, subnet: other }) => ({
      publicIP,
      address: parseIpv4(publicIP) ?? 0,
      pod: (parsePrefix(other)?.address ?? 0) + 2,
    }));
  return {
    device: backend.device,
    port: backend.port,
    bridge: bridge?.name ?? 'cni0',
    network: prefix,
    external: { name: external.name, address: parseIpv4(external.address) ?? 0 },
    pod: subnet.address + 2,
    peers,
  };
}
