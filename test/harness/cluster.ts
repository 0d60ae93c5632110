/**
 * A cluster of machines in network namespaces, for tests of the product from outside:
 *
 *                        underlay (etcd on 192.168.64.1:2379)
 *        ┌──────────────── br0 192.168.64.1/24 ───────────────┬─ wan 203.0.113.1/24
 *   eth0 │ .11            eth0 │ .12            eth0 │ .66      │ eth0 203.0.113.9
 *     node1                node2     …           stranger     outside
 *   cni0 │ SUBNET.1       cni0 │                (no member)   (knows no pod)
 *    ┌───┴───┐             ┌───┴───┐
 *  pod1a   pod1b         pod2a   pod2b          eth0 SUBNET.2, .3, …
 *
 * A node that is asked to be `far` hangs on a link of its own behind the underlay's router (10.99.N.0/24), with an MTU
 * of its own. All is named after the test's process, so that runs do not meet and leftovers are found.
 */
import { mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { EtcdServer, type EtcdServerOptions } from '../../src/lab/etcd-server.js';
import { Namespace, removeNamespaces } from '../../src/lab/namespace.js';
import { Daemon, type DaemonOptions } from './daemon.js';
import { namePrefix, removeLeftovers, temporaryFolder } from './leftovers.js';
import { until } from './until.js';

export const PREFIX = '/coreos.com/network';
/** Nodes are given one of the first 100 free subnets; those from 10.5.200.0 on are for what a test writes itself. */
export const NETWORK = '10.5.0.0/16';
export const OUTSIDE_ADDRESS = '203.0.113.9';
export const STRANGER_ADDRESS = '192.168.64.66';
export const ETCD_ADDRESS = '192.168.64.1';

/** What a test may want of an etcd beside where it is. */
export type EtcdOptions = Pick<EtcdServerOptions, 'tls' | 'extraArguments'>;

export interface ClusterOptions {
  readonly nodes: number;
  /** Pods on each node; they are plugged in by `startAll`. Default 1. */
  readonly pods?: number;
  /** What is put under PREFIX/config; `null`: nothing. Default: the Network 10.5.0.0/16. */
  readonly config?: object | null;
  readonly etcd?: EtcdOptions;
  /** Nodes (by number, from 1) behind the router, with the MTU of their link. */
  readonly far?: Readonly<Record<number, number>>;
}

/** A key as etcd has it. */
export interface StoredKey {
  readonly key: string;
  readonly value: string;
  /** `0` for a key that never expires. */
  readonly lease: string;
}

export class Pod {
  constructor(
    readonly name: string,
    readonly namespace: Namespace,
    readonly address: string,
  ) {}
}

/** A machine of the cluster, with at most one daemon that the harness knows as its own. */
export class ClusterNode {
  readonly pods: Pod[] = [];
  daemon: Daemon | undefined;
  /** Where this node's files are: subnet.env, the control socket. */
  readonly folder: string;
  #ports = 0;
  /** By the bridge's own address, so that a bridge that is made anew for another subnet begins anew. */
  readonly #podsOnBridge = new Map<string, number>();

  constructor(
    readonly cluster: Cluster,
    readonly name: string,
    readonly namespace: Namespace,
    readonly address: string,
  ) {
    this.folder = join(cluster.folder, name);
    mkdirSync(this.folder);
  }

  /** Starts `flanneld`; does not wait for anything. */
  launch(flags: readonly string[] = [], options: DaemonOptions = {}): Daemon {
    const endpoints = flags.some((flag) => /^--?etcd-endpoints/.test(flag))
      ? []
      : [`--etcd-endpoints=${this.cluster.endpoint}`];
    this.daemon = new Daemon(this.namespace, this.folder, [...endpoints, ...flags], options);
    return this.daemon;
  }

  /** Starts `flanneld` and waits until it is ready. */
  async start(flags: readonly string[] = [], options: DaemonOptions = {}): Promise<Daemon> {
    return this.launch(flags, options).ready();
  }

  /** The daemon that `start` started. */
  get running(): Daemon {
    if (this.daemon === undefined) throw new Error(`no flanneld was started on ${this.name}`);
    return this.daemon;
  }

  /** Plugs a pod into the bridge of the daemon's subnet, making that first where it is not there yet. */
  async addPod(daemon: Daemon = this.running, bridge = 'cni0'): Promise<Pod> {
    const { FLANNEL_SUBNET: gateway, FLANNEL_MTU: mtu } = daemon.subnetEnv;
    const [gatewayAddress, length] = gateway.split('/');
    if (!(await this.namespace.ip('-br link')).includes(`${bridge} `)) {
      await this.namespace.addBridge(bridge);
      await this.namespace.setMtu(bridge, Number(mtu));
      await this.namespace.addAddress(bridge, gateway);
    }
    const number = this.pods.length + 1;
    const name = `${this.name.replace('node', 'pod')}${'abcdefgh'[number - 1]}`;
    const namespace = await this.cluster.addNamespace(name);
    const port = `veth${++this.#ports}`;
    await this.namespace.connect(port, namespace, 'eth0', { mtuBytes: Number(mtu) });
    await this.namespace.joinBridge(port, bridge);
    const onBridge = (this.#podsOnBridge.get(gateway) ?? 0) + 1;
    this.#podsOnBridge.set(gateway, onBridge);
    const address = gatewayAddress.replace(/\d+$/, (last) => String(Number(last) + onBridge));
    await namespace.addAddress('eth0', `${address}/${length}`);
    await namespace.addRoute('default', `via ${gatewayAddress}`);
    const pod = new Pod(name, namespace, address);
    this.pods.push(pod);
    return pod;
  }

  /** The addresses of a device, as `10.5.34.0/32`. */
  async addressesOf(device: string): Promise<string[]> {
    const shown = JSON.parse(await this.namespace.ip(`-json -4 address show dev ${device}`)) as {
      addr_info?: { local: string; prefixlen: number }[];
    }[];
    return shown.flatMap(({ addr_info = [] }) => addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`));
  }
}

export class Cluster {
  readonly nodes: ClusterNode[] = [];
  readonly #namespaces: Namespace[] = [];
  readonly #etcds: EtcdServer[] = [];
  readonly #lent = new Set<ClusterNode>();
  underlay!: Namespace;
  /** A host beyond the underlay's router that has no route to any pod. */
  outside!: Namespace;
  /** A host on the underlay that holds no lease. */
  stranger!: Namespace;
  etcd!: EtcdServer;

  private constructor(
    readonly name: string,
    readonly folder: string,
  ) {}

  /** @param purpose - a short word for names: `restart` */
  static async create(purpose: string, options: ClusterOptions): Promise<Cluster> {
    await removeLeftovers();
    const cluster = new Cluster(namePrefix(purpose), await temporaryFolder(purpose));
    try {
      await cluster.#build(options);
    } catch (error) {
      await cluster.dispose();
      throw error;
    }
    return cluster;
  }

  get endpoint(): string {
    return this.etcd.endpoints[0];
  }

  /** Makes a namespace that goes with the cluster. */
  async addNamespace(name: string): Promise<Namespace> {
    const namespace = await Namespace.create(`${this.name}-${name}`);
    this.#namespaces.push(namespace);
    return namespace;
  }

  /** Starts a daemon on every node, all at once, and plugs the pods in. */
  async startAll(flags: readonly string[] = [], pods = 1): Promise<void> {
    await Promise.all(
      this.nodes.map(async (node) => {
        await node.start(flags);
        for (let number = 0; number < pods; number++) await node.addPod();
      }),
    );
  }

  /**
   * Lends `work` a node that no other `withNode` has, for tests that run side by side; whatever daemon it started there
   * is ended after it.
   */
  async withNode(work: (node: ClusterNode) => Promise<void>): Promise<void> {
    const lend = (): ClusterNode | undefined => {
      const idle = this.nodes.find((candidate) => !this.#lent.has(candidate));
      if (idle !== undefined) this.#lent.add(idle);
      return idle;
    };
    const node = await until('a node is idle', lend, { withinMs: 300_000 });
    try {
      await work(node);
    } finally {
      if (node.daemon?.running === true) await node.daemon.kill();
      this.#lent.delete(node);
    }
  }

  /** Starts a further etcd in the underlay, on a port of its own; it goes with the cluster. */
  async addEtcd(port: number, options: EtcdOptions = {}): Promise<EtcdServer> {
    const server = await EtcdServer.start({
      directory: join(this.folder, `etcd-${port}`),
      addresses: [ETCD_ADDRESS],
      port,
      spawn: (command, args, { cwd, stdio, detached }) =>
        this.underlay.spawn(command, args, { workingDirectory: cwd as string, stdio, detached }),
      ...options,
    });
    this.#etcds.push(server);
    return server;
  }

  /** Every pod of every node. */
  get pods(): Pod[] {
    return this.nodes.flatMap((node) => node.pods);
  }

  putConfig(config: object | string, prefix = PREFIX): Promise<void> {
    return this.etcd.put(`${prefix}/config`, typeof config === 'string' ? config : JSON.stringify(config));
  }

  /** What is stored under PREFIX/subnets/. */
  async storedLeases(prefix = PREFIX): Promise<StoredKey[]> {
    const base64 = (text: string): string => Buffer.from(text).toString('base64');
    const answer = (await this.etcd.call('/v3/kv/range', {
      key: base64(`${prefix}/subnets/`),
      range_end: base64(`${prefix}/subnets0`),
    })) as { kvs?: { key: string; value?: string; lease?: string }[] };
    const plain = (text = ''): string => Buffer.from(text, 'base64').toString();
    return (answer.kvs ?? []).map(({ key, value, lease = '0' }) => ({ key: plain(key), value: plain(value), lease }));
  }

  /** Writes a lease as another node would hold it. */
  putLease(subnet: string, publicIp: string, prefix = PREFIX): Promise<void> {
    const key = `${prefix}/subnets/${subnet.replace('/', '-')}`;
    return this.etcd.put(key, JSON.stringify({ PublicIP: publicIp, PublicIPv6: null }));
  }

  /** Stops every daemon as a service manager would, and forgets the leases, for a test that wants a fresh start. */
  async stopAll(): Promise<void> {
    await Promise.all(this.nodes.map(async ({ daemon }) => daemon?.running && (await daemon.stop())));
  }

  /** Removes everything, whatever state it is in. */
  async dispose(): Promise<void> {
    await Promise.allSettled(this.nodes.map(async ({ daemon }) => daemon?.running && (await daemon.kill())));
    const results = await Promise.allSettled([
      ...this.#etcds.map((server) => server.dispose()),
      removeNamespaces(this.#namespaces),
    ]);
    await rm(this.folder, { recursive: true, force: true });
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  async #build({ nodes, config = { Network: NETWORK }, etcd, far = {} }: ClusterOptions): Promise<void> {
    this.underlay = await this.addNamespace('underlay');
    await this.underlay.addBridge('br0');
    await this.underlay.addAddress('br0', `${ETCD_ADDRESS}/24`);
    await this.underlay.setSysctl('net.ipv4.ip_forward', 1);
    // Started first, for it takes longest to be healthy.
    const etcdStarts = this.addEtcd(2379, etcd);
    etcdStarts.catch(() => undefined);
    try {
      await Promise.all([
        this.#addOutside(),
        this.#addStranger(),
        ...Array.from({ length: nodes }, async (_, index) => {
          this.nodes[index] = await this.#addNode(index + 1, far[index + 1]);
        }),
      ]);
    } finally {
      this.etcd = await etcdStarts;
    }
    if (config !== null) await this.putConfig(config);
  }

  async #addNode(number: number, farMtu: number | undefined): Promise<ClusterNode> {
    const name = `node${number}`;
    const namespace = await this.addNamespace(name);
    await namespace.setSysctl('net.ipv4.ip_forward', 1);
    // The kernel's own ICMP errors are limited to one a second and destination, which tests would run into.
    await namespace.setSysctl('net.ipv4.icmp_ratelimit', 0);
    const address = await this.#attach(namespace, number, farMtu);
    return new ClusterNode(this, name, namespace, address);
  }

  async #attach(namespace: Namespace, number: number, farMtu: number | undefined): Promise<string> {
    const port = `node${number}`;
    if (farMtu === undefined) {
      const address = `192.168.64.${10 + number}`;
      await this.underlay.connect(port, namespace, 'eth0');
      await this.underlay.joinBridge(port, 'br0');
      await namespace.addAddress('eth0', `${address}/24`);
      await namespace.addRoute('default', `via ${ETCD_ADDRESS}`);
      return address;
    }
    await this.underlay.connect(port, namespace, 'eth0', { mtuBytes: farMtu });
    await this.underlay.addAddress(port, `10.99.${number}.1/24`);
    await namespace.addAddress('eth0', `10.99.${number}.2/24`);
    await namespace.addRoute('default', `via 10.99.${number}.1`);
    return `10.99.${number}.2`;
  }

  async #addOutside(): Promise<void> {
    this.outside = await this.addNamespace('outside');
    await this.underlay.connect('wan', this.outside, 'eth0');
    await this.underlay.addAddress('wan', '203.0.113.1/24');
    await this.outside.addAddress('eth0', `${OUTSIDE_ADDRESS}/24`);
    await this.outside.addRoute('default', 'via 203.0.113.1');
  }

  async #addStranger(): Promise<void> {
    this.stranger = await this.addNamespace('stranger');
    await this.underlay.connect('stranger', this.stranger, 'eth0');
    await this.underlay.joinBridge('stranger', 'br0');
    await this.stranger.addAddress('eth0', `${STRANGER_ADDRESS}/24`);
    await this.stranger.addRoute('default', `via ${ETCD_ADDRESS}`);
  }
}
