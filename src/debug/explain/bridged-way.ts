/**
 * The way of a packet between two pods behind one bridge. Each has the other in its own subnet and asks for it by ARP, so
 * the bridge hands the frame on: no route is taken, the TTL stays, rp_filter and ip_forward have no say, and the packet
 * filter sees it only where br_netfilter shows it bridged packets (Documentation/networking/ip-sysctl, bridge-nf-call-iptables).
 */
import { formatIpv4, formatPrefix, prefixContains, prefixOf, type Ipv4Prefix } from '../../packet/address.js';
import type { Account } from './account.js';
import type { HostView } from './host-view.js';
import type { PacketSpec } from './packet-spec.js';

/** A bridge with both ends of a packet in one of its subnets. */
export interface SharedBridge {
  readonly device: string;
  readonly mtuBytes: number;
  /** The bridge's own, in that subnet. */
  readonly address: number;
  readonly subnet: Ipv4Prefix;
}

/**
 * The bridge that both ends of a packet are behind, taking for granted that pods have the prefix length of their
 * bridge's address, as the CNI plugin and Docker give it to them.
 * @param device - by which the packet comes in
 * @returns `undefined` where the packet has to be routed, or is for this host itself
 */
export async function findSharedBridge(
  host: HostView,
  device: string,
  source: number,
  destination: number,
): Promise<SharedBridge | undefined> {
  const link = (await host.interfaces()).find(({ name }) => name === device);
  if (link?.kind !== 'bridge') return undefined;
  const shared = link.addresses
    .map(({ address, prefixLength }) => ({ address, subnet: prefixOf(address, prefixLength) }))
    .find(({ subnet }) => prefixContains(subnet, source) && prefixContains(subnet, destination));
  if (shared === undefined) return undefined;
  const { kind } = await host.route({ destination });
  if (kind === 'local' || kind === 'broadcast') return undefined;
  return { device, mtuBytes: link.mtuBytes, ...shared };
}

/** Takes the packet across, to its end. */
export async function crossBridge(
  { device, mtuBytes, address, subnet }: SharedBridge,
  spec: PacketSpec & { readonly source: number },
  host: HostView,
  account: Account,
): Promise<void> {
  const { source, destination, protocol, port, ttl, lengthBytes, dontFragment } = spec;
  account.pass(
    'bridge',
    `${formatIpv4(destination)} is in ${formatPrefix(subnet)} of ${device}, too: ` +
      `the bridge hands the frame on, with its TTL of ${ttl}, and no route is asked`,
  );
  if (lengthBytes > mtuBytes) {
    const fact = `its ${lengthBytes} bytes do not fit into ${device}, whose MTU is ${mtuBytes}`;
    if (dontFragment) account.drop('mtu', 'packet-too-big', `${fact}, and it must not be fragmented`);
    account.unsure('mtu', `${fact}, and a bridge does not fragment: the pod itself has to`);
  }
  if (!(await host.filtersBridged(device))) {
    account.pass('firewall', 'iptables and nft are not shown what is bridged (bridge-nf-call-iptables is off)');
    return;
  }
  const packet = { source, destination, protocol, destinationPort: port, inDevice: device };
  const rules = await host.filterRules();
  account.filter(rules, ['prerouting'], packet, 'the packet');
  const crossing = { ...packet, outDevice: device };
  const translation = account.filter(rules, ['forward', 'postrouting'], crossing, 'the bridged packet');
  if (translation?.does === 'masquerade') account.pass('firewall', `so its source becomes ${formatIpv4(address)}`);
}
