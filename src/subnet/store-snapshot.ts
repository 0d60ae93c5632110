/**
 * What the store has told this node, as text that outlives the process: the network configuration, the leases of all
 * nodes and which of them is ours. A restart forwards by it until the store answers.
 *
 *     flannelette-snapshot 1
 *     prefix "/coreos.com/network"
 *     config {"Network":"10.5.0.0/16",…}
 *     own 10.5.34.0-24 1767225600000
 *     10.5.34.0-24 {"PublicIP":"192.0.2.1","PublicIPv6":null}
 *     10.5.35.0-24 {"PublicIP":"192.0.2.2","PublicIPv6":null}
 *     leases 2
 *
 * Configuration and leases stand there as they do in the store, and are read by what reads the store.
 */
import { errorMessage } from '../errors.js';
import { prefixesEqual } from '../packet/address.js';
import { formatLeaseKey, parseLeaseKey } from './lease-key.js';
import { formatLeaseValue, parseLeaseValue } from './lease-value.js';
import { leaseFrom, type Lease } from './lease.js';
import { formatNetworkConfig, parseNetworkConfig, type NetworkConfig } from './network-config.js';

/** Of the form above. What has another is of another release and is not read. */
const VERSION = 1;
const MAGIC = 'flannelette-snapshot';

/** What a node knows of its network. */
export interface StoreSnapshot {
  /** Where the network's keys begin, `--etcd-prefix`. */
  readonly prefix: string;
  readonly config: NetworkConfig;
  /** This node's own; it need not be among `leases`. */
  readonly own: Lease;
  /** Those of all nodes. */
  readonly leases: readonly Lease[];
}

/** Either what was read, or in one line why it is of no use. */
export type StoreSnapshotResult =
  { readonly ok: true; readonly snapshot: StoreSnapshot } | { readonly ok: false; readonly reason: string };

/** Leases in one piece of the text: a few milliseconds' work. */
const LEASES_A_PIECE = 2000;

/** Writes the text above, the own lease first. */
export function formatStoreSnapshot(snapshot: StoreSnapshot): string {
  return [...storeSnapshotPieces(snapshot)].join('');
}

/** The same text in pieces, for who has other work to do between two. */
export function* storeSnapshotPieces({ prefix, config, own, leases }: StoreSnapshot): Generator<string> {
  const expiry = own.reserved ? 'reserved' : (own.expiresAtMs ?? 'unknown');
  yield [
    `${MAGIC} ${VERSION}`,
    `prefix ${JSON.stringify(prefix)}`,
    `config ${formatNetworkConfig(config)}`,
    `own ${formatLeaseKey(own)} ${expiry}`,
    formatLease(own),
    '',
  ].join('\n');
  let count = 1;
  for (let begin = 0; begin < leases.length; begin += LEASES_A_PIECE) {
    const others = leases
      .slice(begin, begin + LEASES_A_PIECE)
      .filter(({ subnet }) => !prefixesEqual(subnet, own.subnet));
    count += others.length;
    yield others.map((lease) => `${formatLease(lease)}\n`).join('');
  }
  yield `leases ${count}\n`;
}

function formatLease(lease: Lease): string {
  return `${formatLeaseKey(lease)} ${formatLeaseValue(lease)}`;
}

/**
 * Reads a snapshot, whoever wrote it and however little of it is there.
 * @param backendTypes - the backends that can be run
 */
export function parseStoreSnapshot(text: string, backendTypes: readonly string[]): StoreSnapshotResult {
  try {
    return { ok: true, snapshot: parse(text, backendTypes) };
  } catch (error) {
    return { ok: false, reason: errorMessage(error) };
  }
}

function parse(text: string, backendTypes: readonly string[]): StoreSnapshot {
  const [magic = '', prefixLine = '', configLine = '', ownLine = '', ...rest] = text.split('\n');
  const version = new RegExp(`^${MAGIC} (\\d+)$`).exec(magic)?.[1];
  if (version === undefined) throw new Error('it is no snapshot');
  if (Number(version) !== VERSION) throw new Error(`it is of version ${version}, and this release reads ${VERSION}`);
  const prefix: unknown = JSON.parse(after('prefix ', prefixLine));
  if (typeof prefix !== 'string') throw new Error('it names no prefix');
  const config = parseNetworkConfig(after('config ', configLine), { backendTypes });
  const count = rest.length - 2;
  if (rest.at(-1) !== '' || rest.at(-2) !== `leases ${count}`) throw new Error('it is cut short');
  const leases = rest.slice(0, count).map(parseLease);
  const [ownKey, expiry = ''] = after('own ', ownLine).split(' ');
  const own = leases.find((lease) => formatLeaseKey(lease) === ownKey);
  if (own === undefined) throw new Error("it has no lease of this node's own");
  const expiresAtMs = /^\d+$/.test(expiry) ? Number(expiry) : undefined;
  const known = { ...own, reserved: expiry === 'reserved', ...(expiresAtMs === undefined ? {} : { expiresAtMs }) };
  return { prefix, config, own: known, leases };
}

function after(start: string, line: string): string {
  if (!line.startsWith(start)) throw new Error(`its line ${JSON.stringify(start.trim())} is missing`);
  return line.slice(start.length);
}

function parseLease(line: string): Lease {
  const blank = line.indexOf(' ');
  const key = parseLeaseKey(line.slice(0, blank));
  const value = parseLeaseValue(line.slice(blank + 1));
  if (key === undefined || !value.ok) throw new Error(`it has a lease that makes no sense: ${line.slice(0, 80)}`);
  return leaseFrom(key, value.attributes, false);
}
