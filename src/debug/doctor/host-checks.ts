/** This host: the overlay device, routes, the pod bridge, and the kernel's settings. */
import type { StatusAnswer } from '../../observe/control-protocol.js';
import {
  formatIpv4,
  formatPrefix,
  parsePrefix,
  prefixContains,
  prefixCovers,
  prefixesEqual,
  prefixOf,
  type Ipv4Prefix,
} from '../../packet/address.js';
import { UDP_OVERHEAD_BYTES } from '../../packet/ipv4.js';
import { fail, ok, skip, warn, type Finding } from './check.js';
import { concernOf } from './concern.js';
import type { NodeFacts } from './facts.js';

/** What most checks here are about. */
interface Overlay {
  readonly device: string;
  readonly mtuBytes: number;
  readonly network: Ipv4Prefix;
  readonly subnet: Ipv4Prefix | undefined;
  readonly external: NonNullable<StatusAnswer['interface']>;
}

/** @param inUse - a subnet that pods still use although its lease is lost */
function overlayOf({ status }: Pick<NodeFacts, 'status'>, inUse?: Ipv4Prefix): Overlay | undefined {
  if (!status.known) return undefined;
  const { backend, network, lease, interface: external } = status.value;
  const prefix = parsePrefix(network?.cidr ?? '');
  if (backend === undefined || prefix === undefined || external === undefined) return undefined;
  const subnet = parsePrefix(lease?.subnet ?? '') ?? inUse;
  return { device: backend.device, mtuBytes: backend.mtuBytes, network: prefix, subnet, external };
}

const NO_DATAPLANE = 'no dataplane runs';

export function checkDevice(facts: Pick<NodeFacts, 'status' | 'interfaces'>): Finding {
  const overlay = overlayOf(facts);
  if (overlay === undefined) return skip(NO_DATAPLANE);
  if (!facts.interfaces.known) return skip(facts.interfaces.why);
  const { device, subnet } = overlay;
  const link = facts.interfaces.value.find(({ name }) => name === device);
  if (link === undefined)
    return fail(`there is no device ${device}`, 'flanneld makes it again within seconds; see its log');
  if (!link.up) return fail(`${device} is down: pods reach no other node`, `ip link set ${device} up`);
  if (!link.carrier) {
    return fail(`${device} has no carrier: no process holds it`, 'flanneld is gone or its workers are: restart it');
  }
  const wanted = subnet?.address;
  if (wanted !== undefined && !link.addresses.some(({ address }) => address === wanted)) {
    return warn(
      `${device} lacks its address ${formatIpv4(wanted)}`,
      'flanneld puts it back within 5 s; if it goes away again, something else manages the device',
    );
  }
  return ok(`${device} is up, with ${link.addresses.map(({ address }) => formatIpv4(address)).join(', ')}`);
}

export function checkMtu(facts: Pick<NodeFacts, 'status' | 'interfaces'>): Finding {
  const overlay = overlayOf(facts);
  if (overlay === undefined) return skip(NO_DATAPLANE);
  if (!facts.interfaces.known) return skip(facts.interfaces.why);
  const { device, mtuBytes, network, external } = overlay;
  const links = facts.interfaces.value;
  const underlay = links.find(({ name }) => name === external.name);
  const link = links.find(({ name }) => name === device);
  if (underlay === undefined) return fail(`the external interface ${external.name} is gone`, 'restart flanneld');
  const room = underlay.mtuBytes - UDP_OVERHEAD_BYTES;
  const sum = `${external.name} has ${underlay.mtuBytes}, less ${UDP_OVERHEAD_BYTES} of outer headers is ${room}`;
  if (mtuBytes > room) {
    return fail(
      `packets of the overlay's MTU ${mtuBytes} do not fit: ${sum}`,
      `restart flanneld, which then uses ${room}; or set --mtu ${room}`,
    );
  }
  if (link !== undefined && link.mtuBytes !== mtuBytes) {
    return warn(
      `${device} has an MTU of ${link.mtuBytes} instead of ${mtuBytes}`,
      `ip link set ${device} mtu ${mtuBytes}`,
    );
  }
  const wide = links.filter(
    ({ name, addresses, mtuBytes: own }) =>
      name !== device && own > mtuBytes && addresses.some(({ address }) => prefixContains(network, address)),
  );
  if (wide.length > 0) {
    return warn(
      `the pods' side is wider than the overlay: ${wide.map(({ name, mtuBytes: own }) => `${name} has ${own}`).join(', ')}`,
      `give bridge and pods the MTU of subnet.env, ${mtuBytes}; until then large packets rely on ICMP getting through`,
    );
  }
  return ok(`${device} has ${mtuBytes}: ${sum}`);
}

export function checkRoutes(
  facts: Pick<NodeFacts, 'status' | 'interfaces' | 'routes' | 'policyRules' | 'subnetFile'>,
): Finding {
  const overlay = overlayOf(facts, facts.subnetFile.known ? facts.subnetFile.value.subnet : undefined);
  if (overlay === undefined) return skip(NO_DATAPLANE);
  if (!facts.routes.known) return skip(facts.routes.why);
  const { device, network, subnet } = overlay;
  const text = formatPrefix(network);
  const routes = facts.routes.value;
  const main = routes.find(({ destination, linkDown }) => prefixesEqual(destination, network) && !linkDown);
  if (main?.device !== device) {
    const whose =
      main === undefined ? `no route leads to ${text}` : `the route to ${text} leads to ${main.device ?? main.type}`;
    return fail(whose, `ip route replace ${text} dev ${device} scope global`);
  }
  const addresses = networkAddresses(facts);
  const outside = typeof addresses === 'string' ? [] : addresses.outside;
  const takes = routes.filter(
    ({ destination, device: through, type }) =>
      through !== device &&
      type === 'unicast' &&
      prefixCovers(network, destination) &&
      !prefixesEqual(destination, network) &&
      !(subnet !== undefined && prefixCovers(subnet, destination)),
  );
  // The kernel makes such a route with the address, and takes it away with it.
  const stolen = takes.filter(
    ({ destination, device: through }) =>
      !outside.some((one) => one.device === through && prefixesEqual(prefixOf(one.address, one.length), destination)),
  );
  if (stolen.length > 0) {
    const list = stolen.map(({ destination, device: through }) => `${formatPrefix(destination)} dev ${through ?? '?'}`);
    return fail(
      `other routes take parts of the Network away from ${device}`,
      `remove what made them, or: ip route delete ${list[0]}`,
      list,
    );
  }
  const rules = facts.policyRules.known ? facts.policyRules.value : [];
  if (rules.length > 0) {
    return warn(
      'policy rules are asked before the main table',
      'see that their tables leave the Network alone: flannelctl explain DESTINATION asks the kernel',
      rules.map(({ priority, text: rule }) => `${priority}: ${rule}`),
    );
  }
  if (takes.length > 0) {
    const told = concernOf(facts.status, 'lost-subnet') === undefined ? 'bridge' : 'lost-subnet';
    return ok(`${text} leads to ${device}, less what goes with addresses that the check "${told}" tells of`);
  }
  return ok(`${text} leads to ${device}, and nothing takes a part of it away`);
}

export function checkBridge(facts: Pick<NodeFacts, 'status' | 'interfaces'>): Finding {
  const addresses = networkAddresses(facts);
  if (typeof addresses === 'string') return skip(addresses);
  const { inside, outside, subnet } = addresses;
  if (outside.length > 0 && concernOf(facts.status, 'lost-subnet') !== undefined) {
    return skip(`${shown(outside).join(', ')}: see the check "lost-subnet"`);
  }
  if (outside.length > 0) {
    return fail(
      `${shown(outside).join(', ')}, outside of this node's lease ${formatPrefix(subnet)}`,
      "the bridge is left from an earlier subnet: make it and its pods anew with subnet.env's FLANNEL_SUBNET",
    );
  }
  if (inside.length === 0) return ok('there is no pod bridge yet');
  return ok(`${shown(inside).join(', ')}, in the lease`);
}

/** A subnet that went to another node takes everything along that has its addresses. */
export function checkLostSubnet(facts: Pick<NodeFacts, 'status' | 'interfaces'>): Finding {
  const concern = concernOf(facts.status, 'lost-subnet');
  if (concern === undefined) {
    return facts.status.known ? ok('no other node has taken its subnet') : skip(NO_DATAPLANE);
  }
  const evidence = `since ${concern.since}`;
  const addresses = networkAddresses(facts);
  if (typeof addresses === 'string') return fail(concern.message, concern.remedy, [evidence]);
  if (addresses.outside.length > 0)
    return fail(concern.message, concern.remedy, [evidence, ...shown(addresses.outside)]);
  return ok("its subnet went to another node, and no device here has the old one's addresses any more", [evidence]);
}

interface DeviceAddress {
  readonly device: string;
  readonly address: number;
  /** Of its prefix. */
  readonly length: number;
}

function shown(addresses: readonly DeviceAddress[]): string[] {
  return addresses.map(({ device, address }) => `${device} has ${formatIpv4(address)}`);
}

/** Addresses of the network that devices have, the tunnel's apart, in and outside of this node's lease; or why they are not known. */
function networkAddresses(
  facts: Pick<NodeFacts, 'status' | 'interfaces'>,
): { readonly inside: DeviceAddress[]; readonly outside: DeviceAddress[]; readonly subnet: Ipv4Prefix } | string {
  const overlay = overlayOf(facts);
  if (overlay === undefined) return NO_DATAPLANE;
  if (!facts.interfaces.known) return facts.interfaces.why;
  const { network, subnet } = overlay;
  if (subnet === undefined) return 'this node holds no lease';
  const inNetwork = facts.interfaces.value
    .filter(({ name }) => name !== overlay.device)
    .flatMap(({ name: device, addresses }) =>
      addresses.map(({ address, prefixLength: length }) => ({ device, address, length })),
    )
    .filter(({ address }) => prefixContains(network, address));
  const within = (wanted: boolean): DeviceAddress[] =>
    inNetwork.filter(({ address }) => prefixContains(subnet, address) === wanted);
  return { inside: within(true), outside: within(false), subnet };
}

export function checkSubnetFile(facts: Pick<NodeFacts, 'status' | 'subnetFile'>): Finding {
  const overlay = overlayOf(facts);
  if (overlay === undefined || !facts.status.known) return skip(NO_DATAPLANE);
  const { subnetFile: path } = facts.status.value;
  if (!facts.subnetFile.known) return fail(facts.subnetFile.why, 'restart flanneld, which writes it anew');
  const { network, subnet, mtuBytes } = facts.subnetFile.value;
  const stale: string[] = [];
  const hold = (what: string, inFile: string | undefined, now: string | undefined): void => {
    if (now !== undefined && inFile !== now) stale.push(`${what} is ${inFile ?? 'missing'}, should be ${now}`);
  };
  hold('FLANNEL_NETWORK', network && formatPrefix(network), formatPrefix(overlay.network));
  hold('FLANNEL_SUBNET', subnet && formatPrefix(subnet), overlay.subnet && formatPrefix(overlay.subnet));
  hold('FLANNEL_MTU', mtuBytes?.toString(), overlay.mtuBytes.toString());
  if (stale.length === 0) return ok(`${path} says what the agent does`);
  return fail(`${path} is stale: ${stale.join('; ')}`, 'restart flanneld, which writes it anew; then what reads it');
}

export function checkForwarding({ forwarding }: Pick<NodeFacts, 'forwarding'>): Finding {
  if (!forwarding.known) return skip(forwarding.why);
  if (forwarding.value) return ok('net.ipv4.ip_forward is on');
  return fail('this host does not forward IPv4: pods reach no other node', 'sysctl -w net.ipv4.ip_forward=1');
}

export function checkReversePath(facts: Pick<NodeFacts, 'status' | 'reversePathFilters'>): Finding {
  const overlay = overlayOf(facts);
  if (overlay === undefined) return skip(NO_DATAPLANE);
  if (!facts.reversePathFilters.known) return skip(facts.reversePathFilters.why);
  const { device } = overlay;
  const modes = facts.reversePathFilters.value;
  const evidence = [...modes].map(([name, mode]) => `${name}: ${mode} (${['off', 'strict', 'loose'][mode] ?? '?'})`);
  if (modes.get(device) === 1) {
    return warn(
      `rp_filter is strict on ${device}: what nodes send to pods with their underlay addresses is dropped here`,
      `sysctl -w net.ipv4.conf.${device}.rp_filter=2 net.ipv4.conf.all.rp_filter=2`,
      evidence,
    );
  }
  return ok(`${device} takes packets from any source that there is a way back to`, evidence);
}
