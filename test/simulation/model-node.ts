/** One node: the real agent and the real lease logic, on a host, a backend and a clock that are made up. */
import type { Backend, BackendOptions, RunningBackend } from '../../src/backend/backend.js';
import type { BackendStatus } from '../../src/backend/status.js';
import type { Clock } from '../../src/clock.js';
import { FlannelError } from '../../src/errors.js';
import { AgentState } from '../../src/flanneld/agent-state.js';
import { Agent, type AgentParts } from '../../src/flanneld/agent.js';
import type { NodeHost } from '../../src/flanneld/node-host.js';
import { readInvocation, type FlanneldOptions } from '../../src/flanneld/flags.js';
import { KnownLeases } from '../../src/flanneld/known-leases.js';
import { silentLogger } from '../../src/log.js';
import { StoreStatistics } from '../../src/observe/store-statistics.js';
import { formatIpv4, formatPrefix, type Ipv4Prefix } from '../../src/packet/address.js';
import { createSubnetManagerOn } from '../../src/subnet/etcd/etcd-subnet-manager.js';
import type { Lease } from '../../src/subnet/lease.js';
import type { StoreSnapshot } from '../../src/subnet/store-snapshot.js';
import type { SubnetManager } from '../../src/subnet/subnet-manager.js';
import type { Chance } from './chance.js';
import { LONGEST_WAY_MS, ModelConnection, type Way } from './model-connection.js';
import type { ModelEtcd } from './model-etcd.js';
import type { Timeline } from './timeline.js';

export const PREFIX = '/coreos.com/network';
export const TTL_SECONDS = 600;

/** Renewal begins two minutes before the end; rules are looked at so seldom that they do not fill the simulation. */
const FLAGS = ['--subnet-lease-renew-margin=2', '--iptables-resync=86400'];

export interface ModelNodeOptions {
  readonly name: string;
  readonly timeline: Timeline;
  readonly etcd: ModelEtcd;
  readonly chance: Chance;
  /** How fast this node's clock goes; 1 is right. */
  readonly clockRate: number;
  address: number;
  /** Its table has changed. */
  tableChanged(node: ModelNode): void;
  /** Its agent has ended by itself. */
  failed(node: ModelNode, error: unknown): void;
}

export class ModelNode {
  readonly name: string;
  readonly way: Way = { state: 'open', lossProbability: 0.01, stallProbability: 0.002 };
  readonly clock: Clock;
  /** Of this host, as it is now, and since when. */
  address: number;
  addressSinceMs = 0;
  /** Every address that the present process has had. */
  addresses = new Set<number>();
  /** What the packet workers would forward by: the owner of each subnet. */
  readonly table = new Map<string, number>();
  /** The subnet that the backend serves, and what subnet.env says. */
  served: string | undefined;
  subnetFile: Ipv4Prefix | undefined;
  /** Whether the present process has come as far as subnet.env. */
  settled = false;
  state: AgentState | undefined;
  /** What the agent takes for its address, and took for it before. */
  private known = { address: 0, former: 0, changedAt: 0 };
  private snapshot: StoreSnapshot | undefined;
  private life: { readonly stop: AbortController; readonly connection: ModelConnection } | undefined;

  constructor(private readonly options: ModelNodeOptions) {
    const { name, timeline, clockRate, address } = options;
    this.name = name;
    this.address = address;
    this.clock = {
      now: () => EPOCH_MS + timeline.now * clockRate,
      elapsed: () => timeline.now * clockRate,
      after: (delayMs, call) => timeline.after(delayMs / clockRate, call),
    };
  }

  /** Gives the host another address; its agent finds out by and by. */
  moveTo(address: number): void {
    this.address = address;
    this.addressSinceMs = this.options.timeline.now;
  }

  get running(): boolean {
    return this.life !== undefined;
  }

  /** Whether the agent says that all is well. */
  get ready(): boolean {
    return this.running && this.state?.notReadyReason() === undefined;
  }

  get lease(): Lease | undefined {
    return this.state?.lease;
  }

  /** As a service manager does it: what runs already is left alone. */
  start(): void {
    if (this.running) return;
    const { name, timeline, etcd, chance } = this.options;
    const stop = new AbortController();
    const connection = new ModelConnection({ actor: name, clock: this.clock, timeline, etcd, chance, way: this.way });
    const life = { stop, connection };
    this.life = life;
    this.addresses = new Set([this.address]);
    this.known = { address: this.address, former: this.address, changedAt: 0 };
    this.settled = false;
    const manager = createSubnetManagerOn(connection, {
      prefix: PREFIX,
      backendTypes: ['udp'],
      logger: silentLogger,
      ttlSeconds: TTL_SECONDS,
      random: chance.next,
    });
    const parts = this.parts(manager);
    this.state = parts.state;
    new Agent(parts).run(stop.signal).then(
      () => undefined,
      (error: unknown) => {
        if (this.life === life) this.options.failed(this, error);
      },
    );
  }

  /** Ends the agent as a crash would: nothing that it had under way is waited for. */
  stop(): void {
    this.life?.stop.abort(new Error('stopped'));
    this.life?.connection.close();
    this.life = undefined;
  }

  setWay(state: Way['state']): void {
    if (this.way.state === state) return;
    this.way.state = state;
    if (state !== 'open') this.life?.connection.breakStreams();
  }

  /** The server is another now, or the same from an earlier time. */
  breakStreams(): void {
    this.life?.connection.breakStreams();
  }

  /** Whether the agent took this for its address when it sent what arrives now: it may not have noticed a change yet. */
  tookForItsOwn(address: number): boolean {
    const { address: present, former, changedAt } = this.known;
    return address === present || (address === former && this.options.timeline.now <= changedAt + LONGEST_WAY_MS);
  }

  private learnAddress(): void {
    this.addresses.add(this.address);
    const { address: former } = this.known;
    if (former !== this.address) this.known = { address: this.address, former, changedAt: this.options.timeline.now };
  }

  private parts(manager: SubnetManager): AgentParts {
    const options = flags();
    const leases = new KnownLeases();
    return {
      options,
      logger: silentLogger,
      manager,
      leases,
      state: new AgentState(options, leases, new StoreStatistics()),
      host: this.host(),
      notifier: undefined,
      clock: this.clock,
      random: this.options.chance.next,
      snapshots: this.snapshots(),
      backendOfType: () => Promise.resolve(this.backend()),
    };
  }

  private host(): NodeHost {
    return {
      chooseInterface: () => {
        this.learnAddress();
        return Promise.resolve({ name: 'eth0', index: 2, mtuBytes: 1500, address: this.address });
      },
      hasAddress: (address) => Promise.resolve(address === this.address),
      checkInterface: () => undefined,
      previousSubnet: () => Promise.resolve(this.subnetFile),
      ensureRules: () => Promise.resolve(),
      writeSubnetFile: (_config, lease) => {
        this.subnetFile = lease.subnet;
        this.settled = true;
        return Promise.resolve();
      },
      warnings: () => Promise.resolve([]),
    };
  }

  private snapshots(): AgentParts['snapshots'] {
    let source: () => StoreSnapshot | undefined = () => undefined;
    const take = (): void => {
      this.snapshot = source() ?? this.snapshot;
    };
    return {
      read: () => Promise.resolve(this.snapshot),
      follow: (followed) => (source = followed),
      changed: take,
      flush: () => Promise.resolve(),
    };
  }

  private backend(): Backend {
    return {
      type: 'udp',
      validate: () => undefined,
      leaseAttributes: () => ({ backendType: '' }),
      start: (options) => this.startBackend(options),
    };
  }

  private startBackend({ external, lease, leases }: BackendOptions): Promise<RunningBackend> {
    if (external.address !== this.address) {
      return Promise.reject(new FlannelError('HOST', `${formatIpv4(external.address)} is not this host's`));
    }
    this.served = formatPrefix(lease.subnet);
    this.table.clear();
    const put = (changed: readonly Lease[]): void => {
      for (const { subnet, publicIp } of changed) this.table.set(formatPrefix(subnet), publicIp);
    };
    put(leases);
    let stopped = false;
    const changed = (): void => {
      if (!stopped) this.options.tableChanged(this);
    };
    return Promise.resolve({
      mtuBytes: 1472,
      deviceName: 'flannel0',
      setLeases: (all) => {
        if (stopped) return;
        this.table.clear();
        put(all);
        changed();
      },
      changeLeases: (some, removed) => {
        if (stopped) return;
        put(some);
        for (const subnet of removed) this.table.delete(formatPrefix(subnet));
        changed();
      },
      status: () => NOTHING_DONE,
      explain: () => {
        throw new Error('nobody asks');
      },
      tap: { taps: [], device: 'flannel0', tunnelEnd: { address: 0, port: 8285 }, leaseOf: () => undefined },
      failed: new Promise<never>(() => undefined),
      descriptors: () => [],
      park: () => Promise.resolve(),
      resume: () => Promise.resolve(),
      stop: () => {
        stopped = true;
        return Promise.resolve();
      },
    } satisfies RunningBackend);
  }
}

const EPOCH_MS = Date.UTC(2030, 0, 1);

const NOTHING_DONE = { type: 'udp', device: 'flannel0', mtuBytes: 1472, port: 8285 } as BackendStatus;

let parsedFlags: FlanneldOptions | undefined;

function flags(): FlanneldOptions {
  if (parsedFlags === undefined) {
    const invocation = readInvocation(FLAGS, {});
    if (invocation.action !== 'run') throw new Error('the flags are none to run with');
    parsedFlags = invocation.options;
  }
  return parsedFlags;
}
