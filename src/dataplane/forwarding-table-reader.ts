/**
 * The forwarding table as packet workers see it, and how it lies in shared memory; `forwarding-table.ts` tells the idea.
 */
import { FlannelError } from '../errors.js';
import { prefixMask, type Ipv4Prefix } from '../packet/address.js';
import { SharedAddressSet } from './shared-address-set.js';
import { WorkerEpochs } from './worker-epochs.js';

/** {@link ForwardingTableReader.lookup}: nobody leases the subnet of this address. */
export const NO_LEASE = -1;
/** {@link ForwardingTableReader.lookup}: the address is in this node's own subnet. */
export const OWN_SUBNET = -2;
/** {@link ForwardingTableReader.lookup}: the address is not in the Network. */
export const OUTSIDE = -3;

export const TABLE_MAGIC = 0x666c6e74;
const MAX_FIRST_LEVEL_BITS = 24;
const MAX_BLOCK_BITS = 8;
const MAX_BLOCK_CELLS = 2 ** 24;
const MIN_SLOTS = 2 ** 16;
const MAX_SLOTS = 2 ** 22;
const MAX_OWN_ADDRESSES = 8192;

const SLOT_BITS = 0x00ffffff;
export const LENGTH_SHIFT = 24;
export const OWN_BIT = 0x40000000;
export const BLOCK_BIT = 0x80000000 | 0;

/** Words at the beginning of the buffer, from which a reader derives all else. */
export const HEADER_WORDS = 8;

/** Where each part of the table lies in its buffer. */
export interface TableGeometry {
  readonly network: Ipv4Prefix;
  readonly subnetLength: number;
  readonly workers: number;
  readonly trusted: number;
  readonly firstLevelLength: number;
  readonly firstLevelCells: number;
  readonly blockBits: number;
  readonly blocks: number;
  readonly slots: number;
  readonly epochsAt: number;
  readonly trustedAt: number;
  readonly membersAt: number;
  readonly ownAddressesAt: number;
  readonly slotAddressesAt: number;
  readonly slotPortsAt: number;
  readonly cellsAt: number;
  readonly byteLength: number;
}

/** Everything about the layout follows from four numbers, so readers and the writer always agree. */
export function geometryOf(network: Ipv4Prefix, subnetLength: number, workers: number, trusted: number): TableGeometry {
  const firstLevelBits = Math.min(subnetLength - network.length, MAX_FIRST_LEVEL_BITS);
  const firstLevelLength = network.length + firstLevelBits;
  const firstLevelCells = 2 ** firstLevelBits;
  const blockBits = Math.min(MAX_BLOCK_BITS, 32 - firstLevelLength);
  const oneBlockIsEnough = 32 - firstLevelLength <= MAX_BLOCK_BITS;
  const usefulBlocks = oneBlockIsEnough ? firstLevelCells : firstLevelCells * (1 + 2 ** blockBits);
  const blocks = blockBits === 0 ? 0 : Math.min(usefulBlocks, MAX_BLOCK_CELLS >>> blockBits);
  const slots = Math.min(MAX_SLOTS, Math.max(MIN_SLOTS, 2 * firstLevelCells));
  let end = 4 * HEADER_WORDS;
  const reserve = (bytes: number): number => {
    const at = end;
    end += Math.ceil(bytes / 64) * 64;
    return at;
  };
  const epochsAt = reserve(WorkerEpochs.byteLength(workers));
  const trustedAt = reserve(8 * trusted);
  const ownAddressesAt = reserve(SharedAddressSet.byteLength(MAX_OWN_ADDRESSES));
  const membersAt = reserve(SharedAddressSet.byteLength(slots));
  const slotAddressesAt = reserve(4 * slots);
  const slotPortsAt = reserve(2 * slots);
  const cellsAt = reserve(4 * (firstLevelCells + (blocks << blockBits)));
  return {
    network,
    subnetLength,
    workers,
    trusted,
    firstLevelLength,
    firstLevelCells,
    blockBits,
    blocks,
    slots,
    epochsAt,
    trustedAt,
    membersAt,
    ownAddressesAt,
    slotAddressesAt,
    slotPortsAt,
    cellsAt,
    byteLength: end,
  };
}

/**
 * The table as a packet worker sees it. Addresses may be passed signed or unsigned. Nothing here allocates.
 *
 * Plain reads suffice: ECMAScript never tears an aligned 32-bit element, and what a slot says is stored before a cell
 * names it and stays until every worker has passed a quiescent point.
 */
export class ForwardingTableReader {
  protected readonly geometry: TableGeometry;
  protected readonly cells: Int32Array;
  protected readonly slotAddresses: Uint32Array;
  protected readonly slotPorts: Uint16Array;
  protected readonly trusted: Int32Array;
  protected readonly members: SharedAddressSet;
  protected readonly ownAddresses: SharedAddressSet;
  protected readonly epochs: WorkerEpochs;
  private readonly networkMask: number;
  private readonly networkAddress: number;
  private readonly firstShift: number;
  private readonly blockBits: number;
  private readonly blockMask: number;

  /** @throws FlannelError `BACKEND` when the buffer holds no table */
  constructor(readonly buffer: SharedArrayBuffer) {
    const header = new Int32Array(buffer, 0, HEADER_WORDS);
    if (header[0] !== TABLE_MAGIC) throw new FlannelError('BACKEND', 'forwarding table: this buffer holds no table');
    const network = { address: header[1] >>> 0, length: header[2] };
    const geometry = geometryOf(network, header[3], header[4], header[5]);
    this.geometry = geometry;
    this.cells = new Int32Array(
      buffer,
      geometry.cellsAt,
      geometry.firstLevelCells + (geometry.blocks << geometry.blockBits),
    );
    this.slotAddresses = new Uint32Array(buffer, geometry.slotAddressesAt, geometry.slots);
    this.slotPorts = new Uint16Array(buffer, geometry.slotPortsAt, geometry.slots);
    this.trusted = new Int32Array(buffer, geometry.trustedAt, 2 * geometry.trusted);
    this.members = new SharedAddressSet(buffer, geometry.membersAt, geometry.slots);
    this.ownAddresses = new SharedAddressSet(buffer, geometry.ownAddressesAt, MAX_OWN_ADDRESSES);
    this.epochs = new WorkerEpochs(buffer, geometry.epochsAt, geometry.workers);
    this.networkMask = prefixMask(network.length) | 0;
    this.networkAddress = network.address | 0;
    this.firstShift = 32 - geometry.firstLevelLength;
    this.blockBits = geometry.blockBits;
    this.blockMask = 2 ** geometry.blockBits - 1;
  }

  /** The next hop's slot (0 or more), or {@link NO_LEASE}, {@link OWN_SUBNET}, {@link OUTSIDE}. */
  lookup(address: number): number {
    if ((address & this.networkMask) !== this.networkAddress) return OUTSIDE;
    let shift = this.firstShift;
    let cell = this.cells[(address & ~this.networkMask) >>> shift];
    while (cell < 0) {
      shift = shift > this.blockBits ? shift - this.blockBits : 0;
      cell = this.cells[(cell & ~BLOCK_BIT) + ((address >>> shift) & this.blockMask)];
    }
    return (cell & OWN_BIT) !== 0 ? OWN_SUBNET : (cell & SLOT_BITS) - 1;
  }

  /** Underlay address of a slot, unsigned. */
  slotAddress(slot: number): number {
    return this.slotAddresses[slot];
  }

  /** UDP port of a slot. */
  slotPort(slot: number): number {
    return this.slotPorts[slot];
  }

  /** Whether a datagram from this underlay address may be believed: it owns a lease, or is trusted. */
  isMember(address: number): boolean {
    return this.members.has(address) || this.isTrusted(address);
  }

  /** Whether the address is in one of the trusted sources, which may send for any lease. */
  isTrusted(address: number): boolean {
    for (let index = 0; index < this.trusted.length; index += 2) {
      if ((address & this.trusted[index + 1]) === this.trusted[index]) return true;
    }
    return false;
  }

  /** Whether the address is in one of the trusted sources and owns no lease itself. */
  isTrustedWithoutLease(address: number): boolean {
    return !this.members.has(address) && this.isTrusted(address);
  }

  /** Whether the address is one of this host's own. */
  isOwnAddress(address: number): boolean {
    return this.ownAddresses.has(address);
  }

  /** Worker: between two batches, when no result of a lookup is held; asleep or not, it holds nothing up. */
  offline(workerIndex: number): void {
    this.epochs.offline(workerIndex);
  }

  /** Worker: before the first lookup of a batch. */
  online(workerIndex: number): void {
    this.epochs.online(workerIndex);
  }
}
