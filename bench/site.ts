/**
 * Where a contender runs: two nodes of its own, so that all contenders stand ready at once and take turns without
 * being set up anew.
 *
 *     pod1 ── cni0 ─ node1 ══ eth0 ════════ eth0 ══ node2 ─ cni0 ── pod2
 *                  mgmt0 └── (etcd, for those that need it) ──┘ mgmt0
 */
import type { ChildProcess } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { EtcdServer } from '../src/lab/etcd-server.js';
import { Namespace, removeNamespaces } from '../src/lab/namespace.js';

/** Where traffic begins or ends. */
export interface Endpoint {
  readonly namespace: Namespace;
  readonly address: string;
}

/** What a node's pods are numbered from. */
export interface PodSubnet {
  /** Address of the bridge; the pod gets the next one. */
  readonly gateway: string;
  readonly prefixLength: number;
}

export const UNDERLAY_MTU_BYTES = 1500;
const STORE_ADDRESS = '192.168.65.1';
export const STORE_PORT = 2379;

/** A machine of a site. */
export interface SiteNode {
  readonly name: 'node1' | 'node2';
  readonly namespace: Namespace;
  /** Address of eth0. */
  readonly address: string;
  /** A folder for the files of what runs here. */
  readonly folder: string;
}

export class Site {
  readonly #namespaces: Namespace[] = [];
  nodes!: readonly [SiteNode, SiteNode];

  private constructor(private readonly prefix: string) {}

  /**
   * @param prefix - of the namespaces' names
   * @param folder - where the nodes' folders are made
   */
  static async create(prefix: string, folder: string): Promise<Site> {
    const site = new Site(prefix);
    try {
      await site.#build(folder);
    } catch (error) {
      await site.dispose();
      throw error;
    }
    return site;
  }

  /** Plugs a pod into a bridge on each node, as a CNI plugin would. */
  async addPods(subnets: readonly [PodSubnet, PodSubnet], mtuBytes: number): Promise<readonly [Endpoint, Endpoint]> {
    const [first, second] = await Promise.all(
      this.nodes.map(async (node, index) => {
        const { gateway, prefixLength } = subnets[index];
        await node.namespace.setSysctl('net.ipv4.ip_forward', 1);
        await node.namespace.addBridge('cni0');
        await node.namespace.setMtu('cni0', mtuBytes);
        await node.namespace.addAddress('cni0', `${gateway}/${prefixLength}`);
        const pod = await this.#addNamespace(`pod${index + 1}`);
        await node.namespace.connect('veth1', pod, 'eth0', { mtuBytes });
        await node.namespace.joinBridge('veth1', 'cni0');
        const address = gateway.replace(/\d+$/, (last) => String(Number(last) + 1));
        await pod.addAddress('eth0', `${address}/${prefixLength}`);
        await pod.addRoute('default', `via ${gateway}`);
        return { namespace: pod, address };
      }),
    );
    return [first, second];
  }

  /** Removes all of it, and ends what runs in it. */
  async dispose(): Promise<void> {
    await removeNamespaces(this.#namespaces);
  }

  async #build(folder: string): Promise<void> {
    const [node1, node2] = await Promise.all([this.#addNamespace('node1'), this.#addNamespace('node2')]);
    await node1.connect('eth0', node2, 'eth0', { mtuBytes: UNDERLAY_MTU_BYTES });
    await node1.addAddress('eth0', '192.168.64.1/24');
    await node2.addAddress('eth0', '192.168.64.2/24');
    const node = async (name: SiteNode['name'], namespace: Namespace, address: string): Promise<SiteNode> => {
      const own = join(folder, name);
      await mkdir(own, { recursive: true });
      return { name, namespace, address, folder: own };
    };
    this.nodes = [await node('node1', node1, '192.168.64.1'), await node('node2', node2, '192.168.64.2')];
  }

  async #addNamespace(name: string): Promise<Namespace> {
    const namespace = await Namespace.create(`${this.prefix}-${name}`);
    this.#namespaces.push(namespace);
    return namespace;
  }
}

/** An etcd that nodes reach over a cable of their own, so that none of its traffic crosses what is measured. */
export class Store {
  #nodes = 0;

  private constructor(
    private readonly namespace: Namespace,
    readonly etcd: EtcdServer,
  ) {}

  static async start(prefix: string, folder: string): Promise<Store> {
    const namespace = await Namespace.create(`${prefix}-etcd`);
    try {
      await namespace.addBridge('br0');
      await namespace.addAddress('br0', `${STORE_ADDRESS}/24`);
      const etcd = await EtcdServer.start({
        directory: join(folder, 'etcd'),
        addresses: [STORE_ADDRESS],
        port: STORE_PORT,
        spawn: (command, args, { cwd, stdio, detached }) =>
          namespace.spawn(command, args, { workingDirectory: cwd as string, stdio, detached }),
      });
      return new Store(namespace, etcd);
    } catch (error) {
      await namespace.remove();
      throw error;
    }
  }

  get endpoint(): string {
    return this.etcd.endpoints[0];
  }

  /** Lays a cable from the store to a node. */
  async connect(node: Namespace): Promise<void> {
    const number = ++this.#nodes;
    await this.namespace.connect(`node${number}`, node, 'mgmt0');
    await this.namespace.joinBridge(`node${number}`, 'br0');
    await node.addAddress('mgmt0', `192.168.65.${number + 1}/24`);
  }

  /** Has nftables change something where the store is, by `nft -f`. */
  async nft(rules: string): Promise<void> {
    await this.namespace.exec('nft', ['-f', '-'], { input: rules });
  }

  /** Starts a program there, which ends with this process or the namespace. */
  spawn(command: string, args: readonly string[]): ChildProcess {
    return this.namespace.spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args]);
  }

  async dispose(): Promise<void> {
    await this.etcd.dispose();
    await this.namespace.remove();
  }
}
