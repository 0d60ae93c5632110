/**
 * The network configuration: one JSON document for the whole cluster, read as flannel reads it (Go's encoding/json and
 * flannel's checks), and refused with one line that names the key, its value and what was expected.
 */
import { errorMessage, NetworkConfigError } from '../errors.js';
import { formatIpv4, formatPrefix, lastAddress, parseIpv4, parsePrefix, prefixContains } from '../packet/address.js';
import type { Ipv4Prefix } from '../packet/address.js';
import { JsonFields, parseJson } from './json-fields.js';
import { formatIpv6, formatIpv6Prefix, ipv6Mask, parseIpv6, parseIpv6Prefix } from './ipv6-prefix.js';
import type { Ipv6Prefix } from './ipv6-prefix.js';

/** The network configuration (`PREFIX/config`, or net-conf.json), validated and with its defaults filled in. */
export interface NetworkConfig {
  /** 0.0.0.0/0 when `enableIpv4` is false and the configuration names none. */
  readonly network: Ipv4Prefix;
  /** Prefix length of a node's subnet. */
  readonly subnetLength: number;
  /** First subnet that may be leased. */
  readonly subnetMin: number;
  /** Last subnet that may be leased. */
  readonly subnetMax: number;
  readonly enableIpv4: boolean;
  readonly enableIpv6: boolean;
  readonly enableNftables: boolean;
  /** Present when `enableIpv6` is true. */
  readonly ipv6?: Ipv6NetworkConfig;
  readonly backend: BackendConfig;
}

/** The IPv6 half of a dual-stack network. */
export interface Ipv6NetworkConfig {
  readonly network: Ipv6Prefix;
  readonly subnetLength: number;
  readonly subnetMin: bigint;
  readonly subnetMax: bigint;
}

export interface BackendConfig {
  /** `udp` when the configuration names none. */
  readonly type: string;
  /** UDP port of the tunnel; 8285 by default for udp. */
  readonly port: number;
  /** MTU of the overlay where the configuration sets it (this project's own key). */
  readonly mtuBytes?: number;
}

export interface NetworkConfigOptions {
  /** The backends that can be run, in lower case: what else `Backend.Type` names is refused. */
  readonly backendTypes: readonly string[];
}

/** Default UDP port by backend; 0 for one that has no port. */
const DEFAULT_PORTS: Readonly<Record<string, number>> = { udp: 8285, vxlan: 8472 };

/** The smallest MTU an IPv4 link may have (RFC 791). */
export const MIN_MTU_BYTES = 68;
/** The largest inner packet that fits into a UDP datagram over IPv4: 65535 less 20 bytes of IP and 8 of UDP. */
export const MAX_MTU_BYTES = 65507;

const TOP_LEVEL_KEYS = [
  'EnableIPv4',
  'EnableIPv6',
  'EnableNFTables',
  'Network',
  'SubnetLen',
  'SubnetMin',
  'SubnetMax',
  'IPv6Network',
  'IPv6SubnetLen',
  'IPv6SubnetMin',
  'IPv6SubnetMax',
  'Backend',
];
const BACKEND_KEYS = ['Type', 'Port', 'MTU'];
/** flannel's backends: who asks for one of them made no typing mistake. */
const FLANNEL_BACKENDS = new Set(['vxlan', 'host-gw', 'wireguard', 'ipip', 'ipsec', 'alloc', 'extension', 'udp']);

/**
 * Reads, checks and completes a network configuration. Unknown keys are ignored and keys match without regard to case,
 * as in flannel.
 * @throws NetworkConfigError one line that names the key, its value and what was expected
 */
export function parseNetworkConfig(json: string, options: NetworkConfigOptions): NetworkConfig {
  const fields = topLevel(json);
  const enableIpv4 = fields.boolean('EnableIPv4', true);
  const enableIpv6 = fields.boolean('EnableIPv6', false);
  const enableNftables = fields.boolean('EnableNFTables', false);
  const ipv4 = ipv4Network(fields, enableIpv4);
  const ipv6 = enableIpv6 ? { ipv6: ipv6Network(fields) } : {};
  return { ...ipv4, enableIpv4, enableIpv6, enableNftables, ...ipv6, backend: backendConfig(fields, options) };
}

/** Writes a configuration, defaults included: read again, it says the same. */
export function formatNetworkConfig(config: NetworkConfig): string {
  const { ipv6, backend } = config;
  // Without IPv4 there may be no Network to write.
  const ipv4 = config.network.length > 0 && {
    Network: formatPrefix(config.network),
    SubnetLen: config.subnetLength,
    SubnetMin: formatIpv4(config.subnetMin),
    SubnetMax: formatIpv4(config.subnetMax),
  };
  return JSON.stringify({
    ...ipv4,
    EnableIPv4: config.enableIpv4,
    EnableIPv6: config.enableIpv6,
    EnableNFTables: config.enableNftables,
    ...(ipv6 && {
      IPv6Network: formatIpv6Prefix(ipv6.network),
      IPv6SubnetLen: ipv6.subnetLength,
      IPv6SubnetMin: formatIpv6(ipv6.subnetMin),
      IPv6SubnetMax: formatIpv6(ipv6.subnetMax),
    }),
    Backend: { Type: backend.type, Port: backend.port, MTU: backend.mtuBytes },
  });
}

/**
 * The keys of a configuration that nothing reads, such as misspelt ones: flannel and this project ignore them in
 * silence, so that `flannelctl network check` had better say them.
 * @throws NetworkConfigError when the text is no JSON object
 */
export function ignoredKeys(json: string): string[] {
  const fields = topLevel(json);
  const backend = fields.object('Backend');
  const below = backend === undefined ? [] : backend.unknownKeys(BACKEND_KEYS).map((key) => `Backend.${key}`);
  return [...fields.unknownKeys(TOP_LEVEL_KEYS), ...below];
}

/** What a configuration was understood to say, defaults included: pairs for a table, in a fixed order. */
export function describeNetworkConfig(config: NetworkConfig): readonly (readonly [name: string, value: string])[] {
  const { ipv6, backend } = config;
  const rows: [string, string][] = [];
  if (config.enableIpv4) {
    rows.push(['Network', formatPrefix(config.network)]);
    rows.push(['SubnetLen', String(config.subnetLength)]);
    rows.push(['SubnetMin', formatIpv4(config.subnetMin)]);
    rows.push(['SubnetMax', formatIpv4(config.subnetMax)]);
    rows.push(['Subnets', String((config.subnetMax - config.subnetMin) / 2 ** (32 - config.subnetLength) + 1)]);
  }
  rows.push(['EnableIPv4', String(config.enableIpv4)], ['EnableIPv6', String(config.enableIpv6)]);
  if (ipv6 !== undefined) {
    rows.push(['IPv6Network', formatIpv6Prefix(ipv6.network)]);
    rows.push(['IPv6SubnetLen', String(ipv6.subnetLength)]);
    rows.push(['IPv6SubnetMin', formatIpv6(ipv6.subnetMin)]);
    rows.push(['IPv6SubnetMax', formatIpv6(ipv6.subnetMax)]);
  }
  rows.push(['EnableNFTables', String(config.enableNftables)], ['Backend.Type', backend.type]);
  if (backend.port !== 0) rows.push(['Backend.Port', String(backend.port)]);
  rows.push(['Backend.MTU', backend.mtuBytes === undefined ? 'from the interface' : String(backend.mtuBytes)]);
  return rows;
}

function topLevel(json: string): JsonFields {
  let value: unknown;
  try {
    value = parseJson(json);
  } catch (error) {
    throw new NetworkConfigError(
      `the network configuration is ${errorMessage(error)}: expected an object such as ${EXAMPLE}`,
    );
  }
  const fields = JsonFields.of(value, '', (message) => new NetworkConfigError(message));
  if (fields === undefined) {
    const found = value === null ? 'null' : Array.isArray(value) ? 'an array' : `a ${typeof value}`;
    throw new NetworkConfigError(`the network configuration is ${found}: expected a JSON object such as ${EXAMPLE}`);
  }
  return fields;
}

const EXAMPLE = '{"Network": "10.5.0.0/16"}';

type Ipv4Network = Pick<NetworkConfig, 'network' | 'subnetLength' | 'subnetMin' | 'subnetMax'>;

function ipv4Network(fields: JsonFields, required: boolean): Ipv4Network {
  const text = fields.string('Network');
  if (!required && text === undefined) {
    return { network: { address: 0, length: 0 }, subnetLength: 0, subnetMin: 0, subnetMax: 0 };
  }
  if (text === undefined) throw new NetworkConfigError('Network is missing: expected a CIDR such as "10.5.0.0/16"');
  const network = parsePrefix(text);
  if (network === undefined) {
    throw new NetworkConfigError(`Network ${quote(text)}: expected an IPv4 CIDR such as "10.5.0.0/16"`);
  }
  if (network.length > 28) {
    throw new NetworkConfigError(
      `Network ${quote(text)} is too small: expected /28 or shorter, for four subnets of /30`,
    );
  }
  if (network.length === 0) {
    throw new NetworkConfigError(`Network ${quote(text)} is all of IPv4: expected a CIDR such as "10.5.0.0/16"`);
  }

  const subnetLength = fields.unsigned('SubnetLen') ?? (network.length <= 22 ? 24 : network.length + 2);
  if (subnetLength > 30) {
    throw new NetworkConfigError(`SubnetLen ${subnetLength}: expected 30 or less, for a tunnel and a bridge address`);
  }
  if (subnetLength < network.length + 2) {
    const least = network.length + 2;
    throw new NetworkConfigError(
      `SubnetLen ${subnetLength}: expected ${least} to 30, since ${formatPrefix(network)} must hold at least four subnets`,
    );
  }

  const size = 2 ** (32 - subnetLength);
  // The first subnet is left out by default: its first address is the network's own.
  const subnetMin = ipv4Boundary(fields, 'SubnetMin', network, subnetLength) ?? network.address + size;
  const subnetMax = ipv4Boundary(fields, 'SubnetMax', network, subnetLength) ?? lastAddress(network) - size + 1;
  if (subnetMin > subnetMax) {
    throw new NetworkConfigError(
      `SubnetMin ${formatIpv4(subnetMin)} is above SubnetMax ${formatIpv4(subnetMax)}: expected the lower one first`,
    );
  }
  return { network, subnetLength, subnetMin, subnetMax };
}

function ipv4Boundary(fields: JsonFields, key: string, network: Ipv4Prefix, subnetLength: number): number | undefined {
  const text = fields.string(key);
  // flannel takes 0.0.0.0 for "not set".
  if (text === undefined || text === '0.0.0.0') return undefined;
  const address = parseIpv4(text);
  if (address === undefined) throw new NetworkConfigError(`${key} ${quote(text)}: expected an IPv4 address`);
  if (!prefixContains(network, address)) {
    throw new NetworkConfigError(`${key} ${quote(text)}: expected an address inside Network ${formatPrefix(network)}`);
  }
  if (address % 2 ** (32 - subnetLength) !== 0) {
    throw new NetworkConfigError(`${key} ${quote(text)}: expected the first address of a /${subnetLength} subnet`);
  }
  return address;
}

function ipv6Network(fields: JsonFields): Ipv6NetworkConfig {
  const text = fields.string('IPv6Network');
  if (text === undefined) {
    throw new NetworkConfigError(
      'IPv6Network is missing while EnableIPv6 is true: expected a CIDR such as "fc00::/48"',
    );
  }
  const network = parseIpv6Prefix(text);
  if (network === undefined || network.length === 0) {
    throw new NetworkConfigError(`IPv6Network ${quote(text)}: expected an IPv6 CIDR such as "fc00::/48"`);
  }
  if (network.length > 124) {
    throw new NetworkConfigError(`IPv6Network ${quote(text)} is too small: expected /124 or shorter`);
  }
  const subnetLength = fields.unsigned('IPv6SubnetLen') ?? (network.length <= 62 ? 64 : network.length + 2);
  if (subnetLength > 126 || subnetLength < network.length + 2) {
    throw new NetworkConfigError(
      `IPv6SubnetLen ${subnetLength}: expected ${network.length + 2} to 126 in ${formatIpv6Prefix(network)}`,
    );
  }
  const size = 1n << BigInt(128 - subnetLength);
  const end = network.address + (1n << BigInt(128 - network.length));
  const subnetMin = ipv6Boundary(fields, 'IPv6SubnetMin', network, subnetLength) ?? network.address + size;
  const subnetMax = ipv6Boundary(fields, 'IPv6SubnetMax', network, subnetLength) ?? end - size;
  if (subnetMin > subnetMax) {
    throw new NetworkConfigError(
      `IPv6SubnetMin ${formatIpv6(subnetMin)} is above IPv6SubnetMax ${formatIpv6(subnetMax)}: expected the lower one first`,
    );
  }
  return { network, subnetLength, subnetMin, subnetMax };
}

function ipv6Boundary(fields: JsonFields, key: string, network: Ipv6Prefix, subnetLength: number): bigint | undefined {
  const text = fields.string(key);
  if (text === undefined) return undefined;
  const address = parseIpv6(text);
  if (address === undefined) throw new NetworkConfigError(`${key} ${quote(text)}: expected an IPv6 address`);
  if (address === 0n) return undefined;
  if ((address & ipv6Mask(network.length)) !== network.address) {
    throw new NetworkConfigError(
      `${key} ${quote(text)}: expected an address inside IPv6Network ${formatIpv6Prefix(network)}`,
    );
  }
  if ((address & ipv6Mask(subnetLength)) !== address) {
    throw new NetworkConfigError(`${key} ${quote(text)}: expected the first address of a /${subnetLength} subnet`);
  }
  return address;
}

function backendConfig(fields: JsonFields, { backendTypes }: NetworkConfigOptions): BackendConfig {
  const backend = fields.object('Backend');
  if (backend === undefined) return { type: 'udp', port: DEFAULT_PORTS['udp'] };
  const known = `expected ${backendTypes.map(quote).join(' or ')}`;
  const named = backend.string('Type');
  if (named === undefined) throw new NetworkConfigError(`Backend.Type is missing: ${known}`);
  const type = named.toLowerCase();
  if (!backendTypes.includes(type)) {
    const verdict = FLANNEL_BACKENDS.has(type) ? 'not built yet' : 'unknown';
    throw new NetworkConfigError(`Backend.Type ${quote(named)} is ${verdict}: ${known}`);
  }

  const port = backend.unsignedOrZero('Port') ?? DEFAULT_PORTS[type] ?? 0;
  if (port > 65535 || (port === 0 && type === 'udp')) {
    throw new NetworkConfigError(`Backend.Port ${port}: expected 1 to 65535`);
  }
  const mtuBytes = backend.unsigned('MTU');
  if (mtuBytes !== undefined && (mtuBytes < MIN_MTU_BYTES || mtuBytes > MAX_MTU_BYTES)) {
    throw new NetworkConfigError(`Backend.MTU ${mtuBytes}: expected ${MIN_MTU_BYTES} to ${MAX_MTU_BYTES} bytes`);
  }
  return { type, port, ...(mtuBytes === undefined ? {} : { mtuBytes }) };
}

function quote(text: string): string {
  return JSON.stringify(text);
}
