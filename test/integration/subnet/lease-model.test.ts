/**
 * Several nodes on one small network, a real etcd, and everything that happens to leases in random order: starts, stops,
 * expiries, deletions, reservations, releases, a flannel that writes over others, and cut connections. Whatever the
 * order, these hold:
 *
 * - a key passes from one owner to another only by way of a deletion, or by the hand that is allowed to be rude;
 * - a subnet is taken only when no other owner's key has any of its addresses;
 * - a reservation never becomes a lease that expires while it stands;
 * - nodes that hold a subnet hold different ones, and the store says the same;
 * - a node is refused a subnet only when none is free.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { FlannelError } from '../../../src/errors.js';
import { EtcdServer } from '../../../src/lab/etcd-server.js';
import { formatIpv4, prefixesOverlap } from '../../../src/packet/address.js';
import type { Ipv4Prefix } from '../../../src/packet/address.js';
import { EtcdConnection } from '../../../src/subnet/etcd/connection.js';
import { LeaseAdmin } from '../../../src/subnet/etcd/lease-admin.js';
import { LeaseStore } from '../../../src/subnet/etcd/lease-store.js';
import { DEFAULT_TIMINGS, etcdTargets } from '../../../src/subnet/etcd/options.js';
import { prefixEnd } from '../../../src/subnet/etcd/store-keys.js';
import { watch } from '../../../src/subnet/etcd/watch-stream.js';
import type { Lease } from '../../../src/subnet/lease.js';
import { formatLeaseKey, parseLeaseKey } from '../../../src/subnet/lease-key.js';
import type { SubnetManager } from '../../../src/subnet/subnet-manager.js';
import { Proxy } from './proxy.js';
import { config, Diary, FAST, FAST_PINGS, manager, PREFIX, SUBNETS, until, value } from './store.js';
import { ip, prefix } from '../../support/addresses.js';

const NETWORK = config({ Network: '10.5.0.0/28' });
/** All that may be leased there, and two subnets of another length that lie across them. */
const SUBNET_TEXTS = ['10.5.0.4/30', '10.5.0.8/30', '10.5.0.12/30', '10.5.0.8/29', '10.5.0.4/31'];
const NODES = ['192.168.64.1', '192.168.64.2', '192.168.64.3', '192.168.64.4'];
const PATIENT = { ...FAST, requestTimeoutMs: 2_000 };

let etcd: EtcdServer;
before(async () => {
  etcd = await EtcdServer.start(FAST_PINGS);
});
after(() => etcd.dispose());

/** One node as an agent runs it: a manager behind a connection of its own, and what subnet.env remembers. */
class Node {
  readonly ip: number;
  previous: Ipv4Prefix | undefined;
  cut = false;
  running: { lease: Lease; diary: Diary; abort: AbortController; kept: Promise<void> } | undefined;

  constructor(
    readonly text: string,
    readonly proxy: Proxy,
    readonly manager: SubnetManager,
  ) {
    this.ip = ip(text);
  }

  get lost(): boolean {
    return this.running?.diary.entries.at(-1)?.startsWith('lost') ?? false;
  }

  /** Takes a subnet and keeps it; says whether there was one. */
  async start(): Promise<boolean> {
    const abort = new AbortController();
    const attributes = { publicIp: this.ip, publicIpv6: null, backendType: '' };
    let lease: Lease;
    try {
      lease = await this.manager.acquireLease(NETWORK, { ...attributes, previousSubnet: this.previous }, abort.signal);
    } catch (error) {
      assert.ok(error instanceof FlannelError && error.code === 'LEASE', String(error));
      return false;
    }
    const diary = new Diary();
    this.previous = lease.subnet;
    this.running = { lease, diary, abort, kept: this.manager.keepLease(lease, 3600, diary, abort.signal) };
    return true;
  }

  async stop(): Promise<void> {
    this.running?.abort.abort();
    await this.running?.kept;
    this.running = undefined;
  }
}

/** The real thing, and the view from behind the scenes. */
class World {
  readonly nodes: Node[] = [];
  /** Revisions at which a key was written by force. */
  readonly forced = new Set<string>();
  readonly abort = new AbortController();
  readonly connection: EtcdConnection;
  readonly store: LeaseStore;
  readonly admin: LeaseAdmin;
  startRevision = '0';

  constructor() {
    const options = { endpoints: etcd.endpoints, prefix: PREFIX };
    this.connection = new EtcdConnection({ targets: etcdTargets(options), timings: DEFAULT_TIMINGS });
    this.store = new LeaseStore(this.connection, PREFIX, 60);
    this.admin = new LeaseAdmin(options);
  }

  async open(): Promise<void> {
    await etcd.delete(PREFIX, { prefix: true });
    this.startRevision = (await this.store.list(this.abort.signal)).revision;
    for (const text of NODES) {
      const proxy = await Proxy.before(etcd.endpoints);
      this.nodes.push(new Node(text, proxy, manager([proxy.endpoint], { timings: PATIENT })));
    }
  }

  async close(): Promise<void> {
    for (const node of this.nodes) {
      await node.stop();
      node.manager.close();
      node.proxy.close();
    }
    this.abort.abort();
    this.admin.close();
    this.connection.close();
  }

  async leases(): Promise<Lease[]> {
    const { entries } = await this.store.list(this.abort.signal);
    return entries.map(({ content }) => {
      assert.ok(content.ok);
      return content.lease;
    });
  }

  /** Waits until every node that can see etcd has come to terms with what it says. */
  async settle(): Promise<void> {
    for (const node of this.nodes) {
      const { running } = node;
      if (running === undefined || node.cut) continue;
      const key = `${SUBNETS}${formatLeaseKey(running.lease)}`;
      await until(`the peace of ${node.text}`, async () => node.lost || (await etcd.get(key)) === value(node.text));
    }
  }

  /** Everything that was ever written, in order. */
  async checkHistory(): Promise<void> {
    const { revision: end } = await this.store.list(this.abort.signal);
    const owners = new Map<string, { owner: string; reserved: boolean }>();
    const over = new AbortController();
    let seen = BigInt(this.startRevision);
    const reading = watch(
      this.connection,
      {
        key: Buffer.from(SUBNETS),
        rangeEnd: prefixEnd(SUBNETS),
        afterRevision: this.startRevision,
        events: (events) => {
          for (const { type, kv } of events) {
            const name = kv.key.toString();
            seen = BigInt(kv.mod_revision);
            if (type.toUpperCase() === 'DELETE') {
              owners.delete(name);
              continue;
            }
            const was = owners.get(name);
            const is = { owner: kv.value.toString(), reserved: kv.lease === '0' };
            if (was !== undefined && !this.forced.has(kv.mod_revision)) {
              assert.equal(is.owner, was.owner, `${name} was taken at revision ${kv.mod_revision}`);
              assert.ok(is.reserved || !was.reserved, `${name} is no reservation since revision ${kv.mod_revision}`);
            }
            if (was === undefined && !this.forced.has(kv.mod_revision)) checkFree(name, is.owner, owners);
            owners.set(name, is);
          }
        },
      },
      over.signal,
    );
    const last = await this.lastRevision(BigInt(end));
    await Promise.race([reading, until('the whole history', () => seen >= last)]);
    over.abort();
    await reading;
  }

  async checkHolders(): Promise<void> {
    const leases = await this.leases();
    const holders = this.nodes.filter((node) => node.running !== undefined && !node.lost);
    for (const node of holders) {
      const subnet = node.running?.lease.subnet;
      assert.ok(subnet !== undefined);
      const held = leases.filter((lease) => formatLeaseKey(lease) === formatLeaseKey({ subnet }));
      assert.deepEqual(
        held.map(({ publicIp }) => formatIpv4(publicIp)),
        [node.text],
      );
      for (const other of holders) {
        const theirs = other.running?.lease.subnet;
        assert.ok(other === node || theirs === undefined || !prefixesOverlap(theirs, subnet));
      }
    }
  }

  /** The revision of the last write below `subnets/`: those of other keys are no events here. */
  private async lastRevision(atMost: bigint): Promise<bigint> {
    await etcd.put(`${SUBNETS}10.5.0.0-31`, value('192.168.64.9'));
    const { entries } = await this.store.list(this.abort.signal);
    const marker = entries.find(({ name }) => name === '10.5.0.0-31');
    await etcd.delete(`${SUBNETS}10.5.0.0-31`);
    assert.ok(marker !== undefined && BigInt(marker.modRevision) > atMost);
    return BigInt(marker.modRevision);
  }
}

/** What is created shares no address with what others hold. */
function checkFree(name: string, owner: string, owners: ReadonlyMap<string, { owner: string }>): void {
  for (const [other, holder] of owners) {
    const [created, held] = [name, other].map((key) => parseLeaseKey(key.slice(SUBNETS.length))?.subnet);
    assert.ok(created !== undefined && held !== undefined);
    assert.ok(holder.owner === owner || !prefixesOverlap(created, held), `${name} was taken across ${other}`);
  }
}

/** What the model needs to know to tell which commands make sense. */
interface Model {
  readonly running: Set<number>;
  readonly cut: Set<number>;
}

type LeaseCommand = fc.AsyncCommand<Model, World>;

class NodeCommand implements LeaseCommand {
  constructor(
    private readonly name: 'start' | 'stop' | 'expire' | 'cut' | 'mend',
    private readonly index: number,
  ) {}

  check({ running, cut }: Readonly<Model>): boolean {
    switch (this.name) {
      case 'start':
        return !running.has(this.index) && !cut.has(this.index);
      case 'stop':
      case 'expire':
        return running.has(this.index);
      case 'cut':
        return running.has(this.index) && !cut.has(this.index);
      case 'mend':
        return cut.has(this.index);
    }
  }

  async run(model: Model, world: World): Promise<void> {
    const node = world.nodes[this.index];
    switch (this.name) {
      case 'start':
        if (await node.start()) model.running.add(this.index);
        else await this.checkRefusal(world, node);
        break;
      case 'stop':
        await node.stop();
        model.running.delete(this.index);
        break;
      case 'expire':
        await expire(world, node);
        break;
      case 'cut':
        node.proxy.cut();
        node.cut = true;
        model.cut.add(this.index);
        break;
      case 'mend':
        node.proxy.mend();
        node.cut = false;
        model.cut.delete(this.index);
        break;
    }
    await world.settle();
    await world.checkHolders().catch((error: unknown) => {
      // A node that is cut off cannot know yet.
      if (model.cut.size === 0) throw error;
    });
  }

  toString(): string {
    return `${this.name} ${NODES[this.index]}`;
  }

  private async checkRefusal(world: World, node: Node): Promise<void> {
    const leases = (await world.leases()).filter(({ publicIp }) => publicIp !== node.ip);
    for (const text of SUBNET_TEXTS.slice(0, 3)) {
      assert.ok(
        leases.some(({ subnet }) => prefixesOverlap(subnet, prefix(text))),
        `${text} was free`,
      );
    }
  }
}

class SubnetCommand implements LeaseCommand {
  constructor(
    private readonly name: 'delete' | 'reserve' | 'release' | 'usurp',
    private readonly subnet: string,
    private readonly index: number,
  ) {}

  check(): boolean {
    return true;
  }

  async run(model: Model, world: World): Promise<void> {
    const subnet = prefix(this.subnet);
    const key = `${SUBNETS}${formatLeaseKey({ subnet })}`;
    const refused = (error: unknown) =>
      assert.ok(error instanceof FlannelError && error.code === 'LEASE', String(error));
    switch (this.name) {
      case 'delete':
        await etcd.delete(key);
        break;
      case 'reserve':
        await world.admin.reserve(subnet, ip(NODES[this.index]), world.abort.signal).catch(refused);
        break;
      case 'release':
        await world.admin.release(subnet, world.abort.signal).catch(refused);
        break;
      case 'usurp': {
        const put = {
          key: Buffer.from(key).toString('base64'),
          value: Buffer.from(value(NODES[this.index])).toString('base64'),
        };
        const answer = (await etcd.call('/v3/kv/put', put)) as { header: { revision: string } };
        world.forced.add(answer.header.revision);
        break;
      }
    }
    await world.settle();
    if (model.cut.size === 0) await world.checkHolders();
  }

  toString(): string {
    return `${this.name} ${this.subnet} ${NODES[this.index]}`;
  }
}

/** What etcd does when a lease was not renewed in time. */
async function expire(world: World, node: Node): Promise<void> {
  const subnet = node.running?.lease.subnet;
  assert.ok(subnet !== undefined);
  const { entry } = await world.store.read(formatLeaseKey({ subnet }), world.abort.signal);
  if (entry === undefined || entry.etcdLeaseId === '0') return;
  await etcd.call('/v3/lease/revoke', { ID: entry.etcdLeaseId });
}

const anyNode = fc.nat(NODES.length - 1);
const anySubnet = fc.constantFrom(...SUBNET_TEXTS);
const commands = fc.commands(
  [
    anyNode.map((node) => new NodeCommand('start', node)),
    anyNode.map((node) => new NodeCommand('start', node)),
    fc
      .tuple(fc.constantFrom('stop', 'expire', 'cut', 'mend'), anyNode)
      .map(([name, node]) => new NodeCommand(name as 'stop', node)),
    fc
      .tuple(fc.constantFrom('delete', 'reserve', 'release', 'usurp'), anySubnet, anyNode)
      .map(([name, subnet, node]) => new SubnetCommand(name as 'delete', subnet, node)),
  ],
  { maxCommands: 25 },
);

test('leases stay sound whatever happens, in whatever order', { timeout: 300_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(commands, async (sequence) => {
      const world = new World();
      try {
        await world.open();
        await fc.asyncModelRun(
          () => ({ model: { running: new Set<number>(), cut: new Set<number>() }, real: world }),
          sequence,
        );
        for (const node of world.nodes) {
          if (node.cut) node.proxy.mend();
          node.cut = false;
        }
        await world.settle();
        await world.checkHolders();
        await world.checkHistory();
      } finally {
        await world.close();
      }
    }),
    { numRuns: Number(process.env['FLANNEL_MODEL_RUNS'] ?? 40), interruptAfterTimeLimit: 120_000 },
  );
});
