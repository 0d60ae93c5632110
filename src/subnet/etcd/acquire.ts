/**
 * How a node comes to its subnet: the one that the store already holds for it, else that of its earlier run, else a
 * free one. Nothing is written that was not as expected, so that losing a race costs another look and nothing more.
 */
import { errorMessage, FlannelError } from '../../errors.js';
import { formatIpv4, prefixesOverlap } from '../../packet/address.js';
import type { Ipv4Prefix } from '../../packet/address.js';
import type { Logger } from '../../log.js';
import { allocateSubnet, subnetFits } from '../allocation.js';
import type { RandomInteger } from '../allocation.js';
import { attributesOf } from '../lease.js';
import type { Lease } from '../lease.js';
import { formatLeaseKey, parseLeaseKey } from '../lease-key.js';
import { formatLeaseValue } from '../lease-value.js';
import type { NetworkConfig } from '../network-config.js';
import type { LeaseRequest } from '../subnet-manager.js';
import { leaseName } from './lease-mirror.js';
import type { LeaseStore, WriteResult } from './lease-store.js';
import type { Listing } from './listing.js';
import type { StoredEntry } from './stored-entry.js';
import type { OwnKey } from './own-key.js';
import { isDatabaseFull } from './store-error.js';

const ATTEMPTS = 10;

interface Held {
  readonly entry: StoredEntry;
  readonly lease: Lease;
}

export interface AcquireOptions {
  readonly store: LeaseStore;
  readonly ownKey: OwnKey;
  readonly config: NetworkConfig;
  readonly request: LeaseRequest;
  readonly random: RandomInteger;
  readonly logger: Logger;
  /** Every key of the network as of now. */
  list(signal: AbortSignal): Promise<Listing>;
}

/**
 * Takes a subnet.
 * @throws FlannelError `LEASE` when none is free or ten races were lost; StoreError when etcd cannot be asked
 */
export async function acquireLease(options: AcquireOptions, signal: AbortSignal): Promise<Lease> {
  if (options.config.enableIpv6) {
    throw new FlannelError('LEASE', 'EnableIPv6 is true, but only IPv4 subnets can be leased: set it to false');
  }
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const lease = await tryAcquire(options, signal);
    if (lease !== undefined) return lease;
    signal.throwIfAborted();
  }
  throw new FlannelError('LEASE', `other nodes were faster ${ATTEMPTS} times at taking a subnet: trying again helps`);
}

/** One look and one write; `undefined` when another was faster. */
async function tryAcquire(options: AcquireOptions, signal: AbortSignal): Promise<Lease | undefined> {
  const { store, config, request, logger } = options;
  const { entries } = await options.list(signal);
  const own = entries.filter((entry) => isOwn(options, entry)).flatMap(heldIn);
  const fits = ({ lease }: Held) => subnetFits(config, lease.subnet) && lease.ipv6Subnet === undefined;
  const unfit = own.filter((held) => !fits(held));
  for (const { entry, lease } of unfit) {
    const kind = lease.reserved ? 'reservation' : 'lease';
    logger.warn(`the ${kind} of ${leaseName(lease)} does not fit the network configuration any more: deleting it`);
    await store.remove(entry, signal);
  }
  const reusable = preferred(own.filter(fits), request.previousSubnet);
  if (reusable !== undefined) return reuse(options, reusable, signal);

  const gone = new Set(unfit.map(({ entry }) => entry));
  const taken = entries.filter((entry) => !gone.has(entry)).flatMap(subnetOf);
  return create(options, chooseSubnet(options, taken), signal);
}

/** Several keys may name this node: an operator's reservation counts most, then the subnet it had last. */
function preferred(own: readonly Held[], previous: Ipv4Prefix | undefined): Held | undefined {
  const last = own.find(({ lease }) => previous !== undefined && lease.subnet.address === previous.address);
  const reserved = own.filter(({ lease }) => lease.reserved);
  if (last !== undefined && (last.lease.reserved || reserved.length === 0)) return last;
  return reserved[0] ?? own[0];
}

async function reuse(options: AcquireOptions, { entry, lease }: Held, signal: AbortSignal): Promise<Lease | undefined> {
  const { store, ownKey, request, logger } = options;
  const value = formatLeaseValue(request);
  if (lease.reserved && value === entry.value) {
    logger.info(`${leaseName(lease)} is reserved for this node`);
    ownKey.seen(entry);
    return lease;
  }
  // A fresh etcd lease, whatever the old one's time and whoever shares it; a reservation gets none and stays one.
  let result: WriteResult;
  try {
    result = await store.replace(entry, value, lease.reserved ? 'reservation' : 'lease', signal);
  } catch (error) {
    if (!isDatabaseFull(error) || value !== entry.value) throw error;
    return prolong(options, { entry, lease }, error, signal);
  }
  if (!result.written) return undefined;
  ownKey.seen(result.entry);
  logger.info(`${leaseName(lease)} is held by this node already: going on with it`);
  return leaseFor(request, lease.subnet, lease.reserved, result.expiresAtMs);
}

/** Goes on with a key that says what it should and cannot be written anew: a full etcd still prolongs its leases. */
async function prolong(
  { store, ownKey, request, logger }: AcquireOptions,
  { entry, lease }: Held,
  refusal: unknown,
  signal: AbortSignal,
): Promise<Lease | undefined> {
  const expiresAtMs = await store.keepAlive(entry.etcdLeaseId, signal);
  if (expiresAtMs === undefined) return undefined;
  ownKey.seen(entry);
  logger.warn(`${leaseName(lease)} is held by this node already: going on with it as it is; ${errorMessage(refusal)}`);
  return leaseFor(request, lease.subnet, false, expiresAtMs);
}

function chooseSubnet({ config, request, random, logger }: AcquireOptions, taken: readonly Ipv4Prefix[]): Ipv4Prefix {
  const previous = request.previousSubnet;
  if (previous !== undefined) {
    const name = leaseName({ subnet: previous });
    const free = !taken.some((other) => prefixesOverlap(other, previous));
    if (free && subnetFits(config, previous)) return previous;
    logger.warn(
      `the previous subnet ${name} ${free ? 'does not fit the network configuration' : 'is taken'}: leaving it`,
    );
  }
  return allocateSubnet(config, taken, random);
}

async function create(options: AcquireOptions, subnet: Ipv4Prefix, signal: AbortSignal): Promise<Lease | undefined> {
  const { store, ownKey, request, logger } = options;
  const result = await store.create(formatLeaseKey({ subnet }), formatLeaseValue(request), 'lease', signal);
  if (!result.written) return undefined;
  ownKey.seen(result.entry);
  logger.info(`leased ${leaseName({ subnet })} for ${formatIpv4(request.publicIp)}`);
  return leaseFor(request, subnet, false, result.expiresAtMs);
}

function leaseFor(request: LeaseRequest, subnet: Ipv4Prefix, reserved: boolean, expiresAtMs?: number): Lease {
  return { ...attributesOf(request), subnet, reserved, ...(expiresAtMs === undefined ? {} : { expiresAtMs }) };
}

/** Whether a key is this node's: by its address, or by that which it had when it last saw the key. */
function isOwn({ request, ownKey }: AcquireOptions, entry: StoredEntry): boolean {
  if (!entry.content.ok) return false;
  const { publicIp } = entry.content.lease;
  return publicIp === request.publicIp || (publicIp === request.formerPublicIp && ownKey.isUnchanged(entry));
}

function heldIn(entry: StoredEntry): Held[] {
  const { content } = entry;
  return content.ok ? [{ entry, lease: content.lease }] : [];
}

/** A key with a good name holds its subnet, however bad its value. */
function subnetOf({ name, content }: StoredEntry): Ipv4Prefix[] {
  const subnet = content.ok ? content.lease.subnet : parseLeaseKey(name)?.subnet;
  return subnet === undefined ? [] : [subnet];
}
