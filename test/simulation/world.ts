/**
 * Several nodes, one store, and everything that happens to both in random order, held against what must always be so:
 *
 * - nobody writes or deletes a key that is not its own, and no agent turns a reservation into a lease that expires;
 * - a node that says it is ready has a lease that has not run out by its clock, serves that subnet, and says so in subnet.env;
 * - where nobody meddles with the store, two nodes are never ready with one subnet;
 * - each node's table is what the store held at some moment, and these moments never go back;
 * - no agent ends by itself;
 * - when all is whole again, every node is ready soon, with a subnet of its own that the store says is its, and its table is the store's.
 */
import { FlannelError } from '../../src/errors.js';
import { formatPrefix, parseIpv4 } from '../../src/packet/address.js';
import { formatLeaseValue, parseLeaseValue } from '../../src/subnet/lease-value.js';
import { formatLeaseKey, parseLeaseKey } from '../../src/subnet/lease-key.js';
import { Chance } from './chance.js';
import { ModelEtcd, type Backup, type ModelKey } from './model-etcd.js';
import { ModelNode, PREFIX, TTL_SECONDS } from './model-node.js';
import { Timeline } from './timeline.js';

const CONFIG_KEY = `${PREFIX}/config`;
const SUBNETS = `${PREFIX}/subnets/`;
/** Fifteen subnets. */
const CONFIG = '{"Network": "10.5.0.0/20", "SubnetLen": 24}';
const CONFIGS = [CONFIG, '{"Network": "10.5.0.0/20", "SubnetLen": 24, "SubnetMin": "10.5.2.0"}', '{"Network": '];
const NODES = 5;
const OPERATOR = 'operator';
/** Between two things that go wrong, on average. */
const FAULT_EVERY_MS = 15_000;
/** How soon all must be well when nothing is wrong any more: longer than a lease, and than what anybody waits for. */
const RECOVERY_MS = 2 * TTL_SECONDS * 1000;

export interface WorldOptions {
  readonly seed: number;
  /** Events of each kind are counted here. */
  readonly happened: Map<string, number>;
}

export class Violation extends Error {}

export class World {
  readonly timeline = new Timeline();
  steps = 0;
  private readonly chance: Chance;
  private readonly etcd: ModelEtcd;
  private readonly nodes: ModelNode[] = [];
  /** Whether anybody but the agents writes to the store, and clocks are slow, in this world. */
  private readonly honest: boolean;
  /** Nodes that have one address. */
  private readonly clones = new Set<ModelNode>();
  private readonly moments = new TableMoments();
  /** The moment of the store that each node's table was last seen at. */
  private readonly tableMoment = new Map<ModelNode, number>();
  private backup: Backup | undefined;
  private lastAddress = 0;
  private violation: Violation | undefined;
  private troubled = true;

  constructor(private readonly options: WorldOptions) {
    this.chance = new Chance(options.seed);
    const { chance, timeline } = this;
    this.honest = chance.happens(0.3);
    this.etcd = new ModelEtcd(timeline, (actor, key, before, after) => this.written(actor, key, before, after));
    this.put(CONFIG_KEY, CONFIG);
    const cloned = !this.honest && chance.happens(0.2);
    for (let number = 1; number <= NODES; number++) {
      const node = new ModelNode({
        name: `node${number}`,
        timeline,
        etcd: this.etcd,
        chance,
        clockRate: this.honest ? chance.between(1, 1.05) : chance.between(0.8, 1.2),
        address: cloned && number === 2 ? this.nodes[0].address : this.freshAddress(),
        tableChanged: (changed) => this.checkTable(changed),
        failed: (ended, error) => this.agentEnded(ended, error),
      });
      node.way.lossProbability = chance.oneOf([0, 0.01, 0.1]);
      this.nodes.push(node);
      timeline.after(chance.between(1, 5_000), () => node.start());
    }
    if (cloned) for (const clone of this.nodes.slice(0, 2)) this.clones.add(clone);
    this.planFault();
  }

  /** Lets things happen, then lets all be well again, and checks throughout. @throws Violation */
  async run(steps: number): Promise<void> {
    const end = this.steps + steps;
    while (this.steps < end) await this.step();
    await this.recover();
    for (const node of this.nodes) node.stop();
  }

  private async step(): Promise<void> {
    await this.timeline.step();
    this.steps++;
    for (const node of this.nodes) this.checkNode(node);
    if (this.honest) this.checkAlone();
    if (this.violation !== undefined) throw this.violation;
  }

  private async recover(): Promise<void> {
    this.troubled = false;
    this.put(CONFIG_KEY, CONFIG);
    for (const [name, key] of [...this.etcd.keys]) {
      const mine = this.nodes.some((node) => ownerOf(key) === node.address);
      if (name !== CONFIG_KEY && !mine) this.remove(name);
    }
    for (const node of this.nodes) {
      node.setWay('open');
      node.way.lossProbability = 0;
      node.way.stallProbability = 0;
      node.start();
    }
    const end = this.timeline.now + RECOVERY_MS;
    while (this.timeline.now < end) await this.step();
    const holders = new Map<string, ModelNode>();
    for (const node of this.nodes) {
      const subnet = node.lease === undefined ? 'no subnet' : formatPrefix(node.lease.subnet);
      if (!node.ready)
        throw this.failure(`${node.name} is not ready again: ${node.state?.notReadyReason() ?? 'it does not run'}`);
      const key = node.lease && this.etcd.keys.get(SUBNETS + formatLeaseKey(node.lease));
      if (key === undefined || ownerOf(key) !== node.address)
        throw this.failure(`the store does not say that ${node.name} has ${subnet}`);
      const other = holders.get(subnet);
      if (other !== undefined && !(this.clones.has(node) && this.clones.has(other))) {
        throw this.failure(`${node.name} and ${other.name} both have ${subnet}`);
      }
      holders.set(subnet, node);
      if (this.moments.of(node.table) !== this.moments.now)
        throw this.failure(`the table of ${node.name} is not the store's`);
    }
  }

  /** A host may refuse a start, whose address has just gone; a service manager starts it again. After that none may end. */
  private agentEnded(node: ModelNode, error: unknown): void {
    if (node.settled || !(error instanceof FlannelError) || error.code !== 'HOST') {
      return this.violate(`${node.name} has ended by itself: ${String(error)}`);
    }
    node.stop();
    this.timeline.after(1_000, () => node.start());
  }

  private planFault(): void {
    this.timeline.after(this.chance.between(0, 2 * FAULT_EVERY_MS), () => {
      if (!this.troubled) return;
      this.fault();
      this.planFault();
    });
  }

  private fault(): void {
    const always = ['cut', 'silence', 'crash', 'outage', 'compact', 'lossy'] as const;
    const meddling = [
      'delete',
      'wipe',
      'usurp',
      'garbage',
      'reserve',
      'unreserve',
      'revoke',
      'backup',
      'restore',
      'move',
      'take-address',
      'configure',
      'deconfigure',
    ] as const;
    const kind = this.chance.oneOf<string>(this.honest ? always : [...always, ...meddling]);
    if (this.strike(kind)) this.options.happened.set(kind, (this.options.happened.get(kind) ?? 0) + 1);
  }

  /** Does it, where it makes sense. */
  private strike(kind: string): boolean {
    const { chance, timeline, etcd } = this;
    const node = chance.oneOf(this.nodes);
    const key = this.anyLeaseKey();
    const durationMs = chance.happens(0.3) ? chance.between(300_000, 2_000_000) : chance.between(100, 60_000);
    const forAWhile = (nodes: readonly ModelNode[], state: 'refusing' | 'silent'): boolean => {
      for (const one of nodes) one.setWay(state);
      timeline.after(durationMs, () => nodes.forEach((one) => one.setWay('open')));
      return true;
    };
    switch (kind) {
      case 'cut':
        return forAWhile([node], 'refusing');
      case 'silence':
        return forAWhile([node], 'silent');
      case 'outage':
        return forAWhile(this.nodes, chance.oneOf(['refusing', 'silent'] as const));
      case 'lossy':
        node.way.lossProbability = chance.oneOf([0, 0.01, 0.1, 0.3]);
        return true;
      case 'crash':
        if (!node.running) return false;
        node.stop();
        timeline.after(durationMs, () => node.start());
        return true;
      case 'compact':
        etcd.compact();
        return true;
      case 'backup':
        this.backup = etcd.backup();
        return true;
      case 'restore':
        if (this.backup === undefined) return false;
        etcd.restore(this.backup);
        this.moments.begin(etcd.keys);
        for (const one of this.nodes) one.breakStreams();
        return true;
      case 'wipe':
        for (const name of [...etcd.keys.keys()]) if (name.startsWith(SUBNETS)) this.remove(name);
        return true;
      case 'configure':
        this.put(CONFIG_KEY, chance.oneOf(CONFIGS));
        return true;
      case 'deconfigure':
        this.remove(CONFIG_KEY);
        return true;
      case 'move':
        node.moveTo(this.freshAddress());
        this.clones.delete(node);
        return true;
      case 'take-address': {
        // Another machine starts with the address that this one had a moment ago, or is about to know that it has lost.
        const other = chance.oneOf(this.nodes);
        if (other === node || this.clones.has(node) || this.clones.has(other)) return false;
        const vacant = node.address;
        node.moveTo(this.freshAddress());
        other.stop();
        other.moveTo(vacant);
        other.start();
        return chance.happens(0.5) || forAWhile([node], 'silent');
      }
      case 'usurp':
        this.put(`${SUBNETS}10.5.${chance.between(1, 15) | 0}.0-24`, valueOf(this.freshAddress()), true);
        return true;
      default:
        return key !== undefined && this.strikeKey(kind, key);
    }
  }

  private strikeKey(kind: string, name: string): boolean {
    const found = this.etcd.keys.get(name);
    if (found === undefined) return false;
    switch (kind) {
      case 'delete':
        this.remove(name);
        return true;
      case 'garbage':
        this.put(name, 'nonsense', true);
        return true;
      case 'reserve':
        this.put(name, found.value);
        return true;
      case 'unreserve':
        if (found.lease === '0') this.put(name, found.value, true);
        return found.lease === '0';
      case 'revoke':
        if (found.lease !== '0') this.etcd.revoke(OPERATOR, found.lease);
        return found.lease !== '0';
      default:
        throw new Error(`no such fault: ${kind}`);
    }
  }

  private written(actor: string, name: string, before: ModelKey | undefined, after: ModelKey | undefined): void {
    const key = name.startsWith(SUBNETS) ? parseLeaseKey(name.slice(SUBNETS.length)) : undefined;
    if (key === undefined) return;
    this.moments.change(formatPrefix(key.subnet), before && ownerOf(before), after && ownerOf(after));
    const node = this.nodes.find((one) => one.name === actor);
    if (node === undefined) return;
    const shown = `${name.slice(SUBNETS.length)} (${before?.value ?? 'absent'}, written by ${before?.writer ?? 'nobody'})`;
    // Its owner stays who it was when a node that does not know yet that its address is gone prolongs the lease.
    const kept = after !== undefined && before?.value === after.value && node.tookForItsOwn(ownerOf(after) ?? 0);
    if (before !== undefined && !kept && !this.isOwn(node, before))
      this.violate(`${node.name} wrote ${shown}, which is not its own`);
    if (after === undefined) return;
    if (!node.addresses.has(ownerOf(after) ?? 0)) this.violate(`${node.name} wrote ${shown} in another's name`);
    if (before?.lease === '0' && after.lease !== '0') this.violate(`${node.name} made the reservation ${shown} expire`);
  }

  /** Under its present address; or under one that it had, unless another machine has written the key since. */
  private isOwn(node: ModelNode, key: ModelKey): boolean {
    const owner = ownerOf(key);
    if (owner === undefined || !node.addresses.has(owner)) return false;
    return owner === node.address || key.writer === node.name || key.writer === OPERATOR || !this.isAnothers(node, key);
  }

  private isAnothers(node: ModelNode, key: ModelKey): boolean {
    const owner = ownerOf(key) ?? 0;
    const writer = this.nodes.find((other) => other !== node && other.name === key.writer);
    if (writer === undefined || (this.clones.has(writer) && this.clones.has(node))) return false;
    // One that has had another address since has left the key, as a restored backup may show it again.
    if (writer.address === owner) return key.writtenAtMs >= writer.addressSinceMs;
    return writer.running && writer.tookForItsOwn(owner);
  }

  private checkNode(node: ModelNode): void {
    if (!node.ready) return;
    const { lease } = node;
    if (lease === undefined) return this.violate(`${node.name} is ready without a lease`);
    const subnet = formatPrefix(lease.subnet);
    if (!lease.reserved && lease.expiresAtMs !== undefined && lease.expiresAtMs + CLOCK_GRAIN_MS < node.clock.now()) {
      this.violate(`${node.name} is ready with ${subnet}, whose lease has run out by its clock`);
    }
    if (node.served !== subnet) this.violate(`${node.name} is ready with ${subnet}, and serves ${node.served}`);
    if (node.subnetFile === undefined || formatPrefix(node.subnetFile) !== subnet) {
      this.violate(`${node.name} is ready with ${subnet}, and its subnet.env says otherwise`);
    }
  }

  private checkAlone(): void {
    const holders = new Map<string, string>();
    for (const node of this.nodes) {
      if (!node.ready || node.lease === undefined) continue;
      const subnet = formatPrefix(node.lease.subnet);
      const other = holders.get(subnet);
      if (other !== undefined) this.violate(`${node.name} and ${other} are ready with ${subnet} at once`);
      holders.set(subnet, node.name);
    }
  }

  private checkTable(node: ModelNode): void {
    const moment = this.moments.after(this.tableMoment.get(node) ?? 0, this.moments.of(node.table));
    if (moment === undefined) {
      const table = [...node.table].map(([subnet, owner]) => `${subnet} ${owner}`).sort();
      return this.violate(`the table of ${node.name} is none that the store has held since: ${table.join(', ')}`);
    }
    this.tableMoment.set(node, moment);
  }

  private violate(what: string): void {
    this.violation ??= this.failure(what);
  }

  private failure(what: string): Violation {
    const { seed } = this.options;
    return new Violation(`seed ${seed}, step ${this.steps}, after ${(this.timeline.now / 1000).toFixed(3)} s: ${what}`);
  }

  private anyLeaseKey(): string | undefined {
    const names = [...this.etcd.keys.keys()].filter((name) => name.startsWith(SUBNETS));
    return names.length === 0 ? undefined : this.chance.oneOf(names);
  }

  /** Writes by hand: for a day at most (`leased`), or for good. */
  private put(name: string, value: string, leased = false): void {
    const lease = leased ? { lease: this.etcd.grant(TTL_SECONDS).ID } : {};
    this.etcd.txn(OPERATOR, {
      success: [{ request_put: { key: Buffer.from(name), value: Buffer.from(value), ...lease } }],
    });
  }

  private remove(name: string): void {
    this.etcd.txn(OPERATOR, { success: [{ request_delete_range: { key: Buffer.from(name) } }] });
  }

  private freshAddress(): number {
    return (parseIpv4('192.0.2.0') ?? 0) + ++this.lastAddress;
  }
}

/** Timers go by whole milliseconds. */
const CLOCK_GRAIN_MS = 3;

/** What the store has held of leases, moment by moment, as sums that are cheap to compare. */
class TableMoments {
  now = 0;
  private moment = 0;
  private readonly momentsOf = new Map<number, number[]>([[0, [0]]]);

  change(subnet: string, before: number | undefined, after: number | undefined): void {
    this.set(this.now ^ digest(subnet, before) ^ digest(subnet, after));
  }

  /** The store is another from now on. */
  begin(keys: ReadonlyMap<string, ModelKey>): void {
    let sum = 0;
    for (const [name, key] of keys) {
      const parsed = name.startsWith(SUBNETS) ? parseLeaseKey(name.slice(SUBNETS.length)) : undefined;
      if (parsed !== undefined) sum ^= digest(formatPrefix(parsed.subnet), ownerOf(key));
    }
    this.set(sum);
  }

  of(table: ReadonlyMap<string, number>): number {
    let sum = 0;
    for (const [subnet, owner] of table) sum ^= digest(subnet, owner);
    return sum;
  }

  /** The first moment from `moment` on at which the store held this. */
  after(moment: number, sum: number): number | undefined {
    return this.momentsOf.get(sum)?.find((held) => held >= moment);
  }

  private set(sum: number): void {
    this.now = sum;
    const held = this.momentsOf.get(sum) ?? [];
    held.push(++this.moment);
    this.momentsOf.set(sum, held);
  }
}

function digest(subnet: string, owner: number | undefined): number {
  if (owner === undefined) return 0;
  let hash = owner | 0;
  for (let index = 0; index < subnet.length; index++) hash = Math.imul(hash ^ subnet.charCodeAt(index), 0x01000193);
  return Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d) ^ owner;
}

function ownerOf(key: ModelKey): number | undefined {
  const result = parseLeaseValue(key.value);
  return result.ok ? result.attributes.publicIp : undefined;
}

function valueOf(publicIp: number): string {
  return formatLeaseValue({ publicIp, publicIpv6: null, backendType: '' });
}
