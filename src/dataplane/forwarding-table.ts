/**
 * Which node owns an address: the one table between the control plane, which writes it, and the packet workers, which
 * read it from shared memory without locks.
 *
 * Nearly every subnet of a network has the same length, so the first level is an array with one 32-bit cell for each
 * possible subnet: cell number = (address − network) >> (32 − SubnetLen). A lease shorter than SubnetLen paints several
 * cells; below a cell, blocks of up to 256 cells take the leases that are longer. For example, in 10.5.0.0/16 with
 * SubnetLen 24 the packet to 10.5.34.7 reads cell 34, finds slot 3, and slot 3 says 192.168.64.3, port 8285.
 *
 * A cell is 0 (no lease), or the slot of the next hop plus one with the length of the lease above it, or, with the sign
 * bit set, where its block begins. Each change of a cell is one atomic store of something complete. Longer leases stay
 * on top because a lease is painted only over cells of its own length or shorter.
 *
 * Memory. The buffer is reserved as a whole, but the kernel backs only pages that were touched, and no lease means
 * zero: 10.0.0.0/8 with /24 subnets has 65,536 cells (256 KiB); with /30 subnets 4 Mi cells (16 MiB, should every one be
 * leased). A distinct next hop costs 14 bytes more: 6 for its address and port, 8 in the set of members. The array was
 * preferred to two levels because it is one dependent read instead of two. It ends at 2^24 cells (64 MiB): with more
 * possible subnets than that (/2 with /30), a cell stands for several of them and the blocks take over, one more read.
 */
import { FlannelError } from '../errors.js';
import { formatPrefix, prefixCovers, prefixKey, prefixMask, prefixOf, type Ipv4Prefix } from '../packet/address.js';
import {
  BLOCK_BIT,
  ForwardingTableReader,
  HEADER_WORDS,
  LENGTH_SHIFT,
  OWN_BIT,
  TABLE_MAGIC,
  geometryOf,
} from './forwarding-table-reader.js';
import { IndexPool } from './worker-epochs.js';

export { NO_LEASE, OUTSIDE, OWN_SUBNET, ForwardingTableReader } from './forwarding-table-reader.js';

const DEFAULT_WORKERS = 64;

export interface ForwardingTableOptions {
  /** The overlay's Network. */
  readonly network: Ipv4Prefix;
  /** Prefix length that most leases have; leases of any other length forward as well. */
  readonly subnetLength: number;
  /** Senders that count as members although no lease names them. */
  readonly trustedSources?: readonly Ipv4Prefix[];
  /** Readers that may ever exist (64 by default): each has an index from 0 for its quiescent points. */
  readonly workers?: number;
}

/** A lease as the table sees it. */
export interface ForwardingEntry {
  readonly prefix: Ipv4Prefix;
  /** Where its owner is reached on the underlay. */
  readonly address: number;
  readonly port: number;
}

/** What a change of the table came to. */
export interface TableChange {
  /** Pairs of leases that share addresses, seen with this change for the first time: the longer one wins. */
  readonly overlaps: readonly { readonly longer: Ipv4Prefix; readonly shorter: Ipv4Prefix }[];
  /** Leases that could not be taken in, and why, for a log line. */
  readonly refused: readonly { readonly prefix: Ipv4Prefix; readonly reason: string }[];
}

/** A lease; there may be tens of thousands, so that it says nothing that its slot says. */
interface Route {
  readonly prefix: Ipv4Prefix;
  /** -1 for this node's own subnet. */
  readonly slot: number;
}

/** The table as the control plane sees it: the one thread that may change it. */
export class ForwardingTable extends ForwardingTableReader {
  private readonly routes = new Map<number, Route>();
  private readonly routesOfLength = new Array<number>(33).fill(0);
  /** The slots of next hops by their port, and of one port by their address as a signed integer. */
  private readonly slotsOfPort = new Map<number, Map<number, number>>();
  /** How many routes lead to each slot. */
  private readonly slotUsers: number[] = [];
  private readonly slotPool: IndexPool;
  private readonly blockPool: IndexPool;
  private own: Ipv4Prefix | undefined;
  private knownOwnAddresses = new Set<number>();

  /**
   * Makes an empty table.
   * @throws FlannelError `BACKEND` when the lengths do not fit together
   */
  static create(options: ForwardingTableOptions): ForwardingTable {
    const { network, subnetLength, trustedSources = [], workers = DEFAULT_WORKERS } = options;
    if (subnetLength < Math.max(1, network.length) || subnetLength > 32) {
      throw new FlannelError(
        'BACKEND',
        `forwarding table: subnets of length ${subnetLength} do not fit into ${formatPrefix(network)}`,
      );
    }
    const { byteLength } = geometryOf(network, subnetLength, workers, trustedSources.length);
    const buffer = new SharedArrayBuffer(byteLength);
    const header = new Int32Array(buffer, 0, HEADER_WORDS);
    header.set([TABLE_MAGIC, network.address, network.length, subnetLength, workers, trustedSources.length]);
    return new ForwardingTable(buffer, trustedSources);
  }

  private constructor(buffer: SharedArrayBuffer, trustedSources: readonly Ipv4Prefix[]) {
    super(buffer);
    this.epochs.initialize();
    this.slotPool = new IndexPool(this.geometry.slots, this.epochs);
    this.blockPool = new IndexPool(this.geometry.blocks, this.epochs);
    trustedSources.forEach(({ address, length }, index) => {
      this.trusted.set([address, prefixMask(length)], 2 * index);
    });
  }

  /** Leases that can be forwarded to; this node's own is not counted. */
  get leaseCount(): number {
    return this.routes.size - (this.own === undefined ? 0 : 1);
  }

  /** Distinct next hops behind them. */
  get nextHopCount(): number {
    return [...this.slotsOfPort.values()].reduce((sum, { size }) => sum + size, 0);
  }

  /** Shared memory that was ever touched, in bytes: at most this much of the buffer is resident. */
  get memoryBytes(): number {
    const { firstLevelCells, blockBits, membersAt, slotAddressesAt } = this.geometry;
    const slots = this.slotPool.touched;
    const members = Math.min(slotAddressesAt - membersAt, slots * 4096);
    return membersAt + members + 6 * slots + 4 * (firstLevelCells + this.blockPool.touched * 2 ** blockBits);
  }

  /** Adds a lease or changes its next hop. The same lease again costs nothing. */
  set(prefix: Ipv4Prefix, address: number, port: number): TableChange {
    return this.apply([{ prefix, address, port }], []);
  }

  /** Takes a lease away; a shorter one that covers it shows again. This node's own subnet goes only by {@link setOwn}. */
  delete(prefix: Ipv4Prefix): TableChange {
    return this.apply([], [prefix]);
  }

  /** Makes `entries` the whole truth, touching only what differs. This node's own subnet stays. */
  replaceAll(entries: readonly ForwardingEntry[]): TableChange {
    const wanted = new Set(entries.map(({ prefix }) => prefixKey(prefix)));
    const gone = [...this.routes.values()].filter((route) => route.slot >= 0 && !wanted.has(prefixKey(route.prefix)));
    return this.apply(
      entries,
      gone.map((route) => route.prefix),
    );
  }

  /** Names this node's own subnet, in place of the one before. */
  setOwn(prefix: Ipv4Prefix): TableChange {
    const before = this.own;
    const change = { overlaps: [], refused: [] };
    if (before !== undefined && prefixKey(before) === prefixKey(prefix)) return change;
    if (!this.install({ prefix, slot: -1 }, change)) return change;
    this.own = prefix;
    if (before !== undefined) this.remove(before);
    return change;
  }

  /** Replaces the list of this host's own addresses. `false` when there are more than the table can hold (8192). */
  setOwnAddresses(addresses: readonly number[]): boolean {
    const wanted = new Set(addresses.map((address) => address >>> 0));
    for (const address of this.knownOwnAddresses) if (!wanted.has(address)) this.ownAddresses.delete(address);
    this.knownOwnAddresses = wanted;
    let complete = true;
    for (const address of wanted) complete = this.ownAddresses.add(address) && complete;
    return complete;
  }

  /** The longest lease that an address belongs to, this node's own subnet among them. */
  leaseOf(address: number): Ipv4Prefix | undefined {
    const own = { address: address >>> 0, length: 32 };
    return (this.routes.get(prefixKey(own)) ?? this.covering(own))?.prefix;
  }

  private apply(entries: readonly ForwardingEntry[], gone: readonly Ipv4Prefix[]): TableChange {
    const change: MutableChange = { overlaps: [], refused: [] };
    // New before old: a subnet that moved between leases of different lengths has an owner at every moment.
    for (const entry of entries) this.setOne(entry, change);
    for (const prefix of gone) {
      if (this.own === undefined || prefixKey(this.own) !== prefixKey(prefix)) this.remove(prefix);
    }
    return change;
  }

  private setOne({ prefix, address, port }: ForwardingEntry, change: MutableChange): void {
    const existing = this.routes.get(prefixKey(prefix));
    if (existing !== undefined && existing.slot < 0) {
      change.refused.push({ prefix, reason: "it is this node's own subnet" });
      return;
    }
    if (existing !== undefined && this.slotAddress(existing.slot) === address && this.slotPort(existing.slot) === port)
      return;
    if (!prefixCovers(this.geometry.network, prefix)) {
      change.refused.push({ prefix, reason: `it is not in the Network ${formatPrefix(this.geometry.network)}` });
      return;
    }
    const slot = this.acquireSlot(address, port);
    if (slot < 0) {
      change.refused.push({ prefix, reason: `the table holds no more than ${this.geometry.slots} next hops` });
      return;
    }
    if (!this.install({ prefix, slot }, change)) this.releaseSlot(slot);
  }

  private install(route: Route, change: MutableChange): boolean {
    const key = prefixKey(route.prefix);
    const before = this.routes.get(key);
    if (!this.paint(route.prefix, route.prefix.length, cellOf(route))) {
      change.refused.push({ prefix: route.prefix, reason: 'the table has no room for more leases of unusual length' });
      return false;
    }
    this.routes.set(key, route);
    if (before === undefined) {
      this.routesOfLength[route.prefix.length]++;
      this.collectOverlaps(route.prefix, change);
    } else if (before.slot >= 0) {
      this.releaseSlot(before.slot);
    }
    return true;
  }

  private remove(prefix: Ipv4Prefix): void {
    const key = prefixKey(prefix);
    const route = this.routes.get(key);
    if (route === undefined) return;
    this.routes.delete(key);
    this.routesOfLength[prefix.length]--;
    const covering = this.covering(prefix);
    this.paint(prefix, prefix.length, covering === undefined ? 0 : cellOf(covering));
    if (route.slot >= 0) this.releaseSlot(route.slot);
  }

  /** The longest lease that is shorter than `prefix` and covers it. */
  private covering(prefix: Ipv4Prefix): Route | undefined {
    for (let length = prefix.length - 1; length >= this.geometry.network.length; length--) {
      if (this.routesOfLength[length] === 0) continue;
      const route = this.routes.get(prefixKey(prefixOf(prefix.address, length)));
      if (route !== undefined) return route;
    }
    return undefined;
  }

  private collectOverlaps(prefix: Ipv4Prefix, change: MutableChange): void {
    const shorter = this.covering(prefix);
    if (shorter !== undefined) change.overlaps.push({ longer: prefix, shorter: shorter.prefix });
    for (let length = prefix.length + 1; length <= 32; length++) {
      if (this.routesOfLength[length] === 0) continue;
      for (const other of this.routesWithin(prefix, length)) change.overlaps.push({ longer: other, shorter: prefix });
    }
  }

  /** The leases of one length inside `prefix`, by whichever way is shorter: every place one could be, or every lease. */
  private *routesWithin(prefix: Ipv4Prefix, length: number): Generator<Ipv4Prefix> {
    const places = 2 ** (length - prefix.length);
    if (places < this.routes.size) {
      for (let place = 0; place < places; place++) {
        const route = this.routes.get(prefixKey({ address: prefix.address + place * 2 ** (32 - length), length }));
        if (route !== undefined) yield route.prefix;
      }
      return;
    }
    for (const { prefix: other } of this.routes.values()) {
      if (other.length === length && prefixCovers(prefix, other)) yield other;
    }
  }

  /** Stores `value` in every cell of `prefix` whose lease is not longer than `length`. `false`: out of blocks. */
  private paint(prefix: Ipv4Prefix, length: number, value: number): boolean {
    const { network, firstLevelLength } = this.geometry;
    const first = (prefix.address - network.address) / 2 ** (32 - firstLevelLength);
    if (length <= firstLevelLength) {
      this.paintCells(first, 2 ** (firstLevelLength - length), length, value);
      return true;
    }
    return this.paintBelow(Math.floor(first), firstLevelLength, prefix.address, length, value);
  }

  private paintCells(first: number, count: number, length: number, value: number): void {
    for (let index = first; index < first + count; index++) {
      const cell = this.cells[index];
      if (cell < 0) this.paintCells(cell & ~BLOCK_BIT, 2 ** this.geometry.blockBits, length, value);
      else if (leaseLength(cell) <= length && cell !== value) Atomics.store(this.cells, index, value);
    }
  }

  /** Paints a lease that is longer than what the cell at `index` (of length `cellLength`) stands for. */
  private paintBelow(index: number, cellLength: number, address: number, length: number, value: number): boolean {
    const { blockBits } = this.geometry;
    const blockCells = 2 ** blockBits;
    const childLength = Math.min(32, cellLength + blockBits);
    let cell = this.cells[index];
    if (cell >= 0) {
      const block = this.blockPool.take();
      if (block < 0) return false;
      const start = this.geometry.firstLevelCells + block * blockCells;
      this.cells.fill(cell, start, start + blockCells);
      cell = BLOCK_BIT | start;
      Atomics.store(this.cells, index, cell);
    }
    const start = cell & ~BLOCK_BIT;
    const child = start + ((address >>> (32 - childLength)) & (blockCells - 1));
    let painted = true;
    if (length <= childLength) this.paintCells(child, 2 ** (childLength - length), length, value);
    else painted = this.paintBelow(child, childLength, address, length, value);
    this.collapse(index, cellLength, start);
    return painted;
  }

  /** A block in which no lease is longer than its own cell is not needed any more. */
  private collapse(index: number, cellLength: number, start: number): void {
    const { firstLevelCells, blockBits } = this.geometry;
    const cell = this.cells[start];
    if (cell < 0 || leaseLength(cell) > cellLength) return;
    for (let other = start + 1; other < start + 2 ** blockBits; other++) if (this.cells[other] !== cell) return;
    Atomics.store(this.cells, index, cell);
    this.blockPool.release((start - firstLevelCells) / 2 ** blockBits);
  }

  private acquireSlot(address: number, port: number): number {
    const known = this.slotsOfPort.get(port)?.get(address | 0);
    if (known !== undefined) {
      this.slotUsers[known]++;
      return known;
    }
    const slot = this.slotPool.take();
    if (slot < 0) return -1;
    this.slotAddresses[slot] = address;
    this.slotPorts[slot] = port;
    this.slotUsers[slot] = 1;
    if (!this.isNextHop(address)) this.members.add(address);
    const slots = this.slotsOfPort.get(port);
    if (slots === undefined) this.slotsOfPort.set(port, new Map([[address | 0, slot]]));
    else slots.set(address | 0, slot);
    return slot;
  }

  private releaseSlot(slot: number): void {
    if (--this.slotUsers[slot] > 0) return;
    const [address, port] = [this.slotAddress(slot), this.slotPort(slot)];
    const slots = this.slotsOfPort.get(port);
    slots?.delete(address | 0);
    if (slots?.size === 0) this.slotsOfPort.delete(port);
    if (!this.isNextHop(address)) this.members.delete(address);
    this.slotPool.release(slot);
  }

  /** Whether an address is a next hop, by whatever port. */
  private isNextHop(address: number): boolean {
    for (const slots of this.slotsOfPort.values()) if (slots.has(address | 0)) return true;
    return false;
  }
}

/** What stands in the cells of a lease. */
function cellOf({ prefix, slot }: Route): number {
  return (slot < 0 ? OWN_BIT : slot + 1) | (prefix.length << LENGTH_SHIFT);
}

interface MutableChange {
  readonly overlaps: { longer: Ipv4Prefix; shorter: Ipv4Prefix }[];
  readonly refused: { prefix: Ipv4Prefix; reason: string }[];
}

function leaseLength(cell: number): number {
  return (cell >>> LENGTH_SHIFT) & 0x3f;
}
