/**
 * Two nodes and a stranger on one underlay, each with a pod behind a bridge, as the tests beside this need them:
 *
 *     pod1 10.5.1.6 ─ cni0 10.5.1.1 [node1] eth0 192.168.64.1 ─┐
 *                                                              ├─ [wire] br0
 *     pod2 10.5.2.6 ─ cni0 10.5.2.1 [node2] eth0 192.168.64.2 ─┤
 *                                       [stranger] eth0 192.168.64.9
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { BackendStatus } from '../../../src/backend/status.js';
import { Namespace, removeNamespaces } from '../../../src/lab/namespace.js';
import type { Forgery } from './forge.js';
import type { StaticLease, StaticNodeCommand, StaticNodeSetup } from './static-node.js';
import { namePrefix } from '../../harness/leftovers.js';
import { until } from '../../harness/until.js';

export const NETWORK = '10.5.0.0/16';
export const NODE1: StaticLease = { subnet: '10.5.1.0/24', publicIp: '192.168.64.1' };
export const NODE2: StaticLease = { subnet: '10.5.2.0/24', publicIp: '192.168.64.2' };
export const STRANGER = '192.168.64.9';

/** The compiled program beside this file. */
function program(name: string): string {
  return fileURLToPath(new URL(`./${name}.js`, import.meta.url));
}

/** A running udp backend in a namespace. */
export class StaticNode {
  private readonly waiting: { event: string; resolve: (value: unknown) => void; reject: (error: Error) => void }[] = [];
  private ended: Error | undefined;
  private logText = '';
  device = '';
  mtuBytes = 0;

  /** Starts it; rejects with the backend's own line when it does not come up. */
  static async start(
    namespace: Namespace,
    own: StaticLease,
    peers: readonly StaticLease[],
    changes: Partial<StaticNodeSetup> = {},
  ): Promise<StaticNode> {
    const setup: StaticNodeSetup = {
      networkId: '/coreos.com/network',
      network: NETWORK,
      port: 8285,
      interfaceName: 'eth0',
      own,
      peers,
      sourceCheck: 'strict',
      trustedSources: [],
      ...changes,
    };
    const child = namespace.spawn(process.execPath, [program('static-node'), JSON.stringify(setup)], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const node = new StaticNode(child);
    const { device, mtuBytes } = (await node.next('ready')) as { device: string; mtuBytes: number };
    node.device = device;
    node.mtuBytes = mtuBytes;
    return node;
  }

  private constructor(private readonly child: ChildProcess) {
    assert.ok(child.stdout !== null && child.stderr !== null);
    createInterface({ input: child.stdout }).on('line', (line) => {
      const { event, value } = JSON.parse(line) as { event: string; value: unknown };
      if (event === 'failed') this.fail(new Error(String(value)));
      const index = this.waiting.findIndex((waiter) => waiter.event === event);
      if (index >= 0) this.waiting.splice(index, 1)[0].resolve(value);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.logText += text));
    child.once('exit', (code, signal) => this.fail(new Error(`node ended: ${code ?? signal}; log:\n${this.logText}`)));
  }

  /** What it logged so far. */
  get log(): string {
    return this.logText;
  }

  async status(): Promise<BackendStatus> {
    this.send({ command: 'status' });
    return (await this.next('status')) as BackendStatus;
  }

  async setLeases(leases: readonly StaticLease[]): Promise<void> {
    this.send({ command: 'leases', leases });
    await this.next('leases');
  }

  async stop(): Promise<void> {
    const exited = once(this.child, 'exit');
    this.send({ command: 'stop' });
    await this.next('stopped');
    await exited;
  }

  /** Ends it without a chance to clean up. */
  async kill(): Promise<void> {
    const exited = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await exited;
  }

  private send(command: StaticNodeCommand): void {
    this.child.stdin?.write(`${JSON.stringify(command)}\n`);
  }

  private next(event: string): Promise<unknown> {
    if (this.ended !== undefined) return Promise.reject(this.ended);
    return new Promise((resolve, reject) => this.waiting.push({ event, resolve, reject }));
  }

  private fail(error: Error): void {
    this.ended ??= error;
    for (const waiter of this.waiting.splice(0)) waiter.reject(this.ended);
  }
}

/** The namespaces of the picture above. */
export class Overlay {
  static readonly NAMES = ['wire', 'node1', 'node2', 'pod1', 'pod2', 'stranger'] as const;

  static async build(purpose: string): Promise<Overlay> {
    const made: Namespace[] = [];
    try {
      for (const name of Overlay.NAMES) made.push(await Namespace.create(`${namePrefix(purpose)}-${name}`));
      const [wire, node1, node2, pod1, pod2, stranger] = made;
      await wire.addBridge('br0');
      const nodes: [Namespace, string, string][] = [
        [node1, 'w1', '192.168.64.1/24'],
        [node2, 'w2', '192.168.64.2/24'],
        [stranger, 'w9', '192.168.64.9/24'],
      ];
      for (const [node, port, address] of nodes) {
        await node.connect('eth0', wire, port);
        await wire.joinBridge(port, 'br0');
        await node.addAddress('eth0', address);
      }
      const pods: [Namespace, Namespace, number][] = [
        [node1, pod1, 1],
        [node2, pod2, 2],
      ];
      for (const [node, pod, number] of pods) {
        await node.setSysctl('net.ipv4.ip_forward', 1);
        await node.connect('veth0', pod, 'eth0');
        await node.addBridge('cni0', ['veth0']);
        await node.addAddress('cni0', `10.5.${number}.1/24`);
        await pod.addAddress('eth0', `10.5.${number}.6/24`);
        await pod.addRoute('default', `via 10.5.${number}.1`);
      }
      return new Overlay(wire, node1, node2, pod1, pod2, stranger);
    } catch (error) {
      await removeNamespaces(made);
      throw error;
    }
  }

  private constructor(
    readonly wire: Namespace,
    readonly node1: Namespace,
    readonly node2: Namespace,
    readonly pod1: Namespace,
    readonly pod2: Namespace,
    readonly stranger: Namespace,
  ) {}

  async remove(): Promise<void> {
    // Nodes end while their wires are still there, as on a machine that is switched off in order.
    await removeNamespaces([this.node1, this.node2, this.pod1, this.pod2, this.stranger, this.wire]);
  }
}

/** What `ping` said; it ends with a failure when nothing came back. */
export async function ping(from: Namespace, args: readonly string[]): Promise<string> {
  // All at once: ping(8) waits for the last answers as long as between two packets.
  const all = ['-n', '-l', '100', '-i', '2', '-W', '2', ...args];
  const { stdout, stderr } = await from.exec('ping', all, { allowFailure: true });
  return stdout + stderr;
}

/** Sends forged datagrams from a namespace. */
export async function forge(from: Namespace, forgeries: readonly Forgery[]): Promise<void> {
  await from.exec(process.execPath, [program('forge'), JSON.stringify(forgeries)]);
}

/** Collects what arrives at a UDP port in a namespace. */
export class Receiver {
  readonly payloads: string[] = [];

  static async start(namespace: Namespace, port: number): Promise<Receiver> {
    const child = namespace.spawn(process.execPath, [program('receive'), String(port)]);
    assert.ok(child.stdout !== null);
    const lines = createInterface({ input: child.stdout });
    await once(lines, 'line');
    return new Receiver(child, lines);
  }

  private constructor(
    private readonly child: ChildProcess,
    lines: ReturnType<typeof createInterface>,
  ) {
    lines.on('line', (line) => this.payloads.push(line));
  }

  /** Waits until a payload has arrived; what was sent before it in order has arrived or never will. */
  async until(payload: string): Promise<void> {
    await until(`"${payload}" arrives`, () => this.payloads.includes(payload), {
      evidence: () => `these did: ${this.payloads.join(', ')}`,
    });
  }

  async stop(): Promise<void> {
    const exited = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await exited;
  }
}
