/**
 * Two machines joined by a cable, each with a pod subnet's worth of overlay and no control plane:
 *
 *   namespace a                                          namespace b
 *   flannel0 10.5.1.0 ─ bare-node ─ eth0 192.168.9.1 ═══ eth0 192.168.9.2 ─ bare-node ─ flannel0 10.5.2.0
 */
import { type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { DirectionCounters } from '../../../src/dataplane/counters.js';
import type { OffloadStatus } from '../../../src/dataplane/offloads.js';
import type { WorkerStatus } from '../../../src/dataplane/packet-worker.js';
import { Namespace, removeNamespaces } from '../../../src/lab/namespace.js';
import type { BareNodeConfig, SlowPathNote } from './bare-node.js';

export interface NodeStatus {
  readonly encap: DirectionCounters;
  readonly decap: DirectionCounters;
  readonly workers: readonly WorkerStatus[];
  readonly offloads: readonly OffloadStatus[];
  readonly slowPath: readonly SlowPathNote[];
}

export class BareNode {
  private readonly lines: AsyncIterableIterator<string>;
  private errors = '';

  private constructor(readonly process: ChildProcess) {
    if (process.stdout === null || process.stderr === null) throw new Error('a bare node has no output');
    this.lines = createInterface({ input: process.stdout })[Symbol.asyncIterator]();
    process.stderr.on('data', (data) => (this.errors += String(data)));
  }

  /** Starts a node in a namespace; it carries packets when this resolves. */
  static async start(namespace: Namespace, config: BareNodeConfig): Promise<BareNode> {
    const script = fileURLToPath(new URL('./bare-node.js', import.meta.url));
    const child = namespace.spawn(process.execPath, [script, JSON.stringify(config)], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const node = new BareNode(child);
    await node.answer();
    return node;
  }

  /** The next line that it says, whatever it was asked. */
  async answer(): Promise<Record<string, unknown>> {
    const line = await this.lines.next();
    if (line.done === true) throw new Error(`the bare node ended: ${this.errors}`);
    return JSON.parse(line.value) as Record<string, unknown>;
  }

  async ask(line: string): Promise<Record<string, unknown>> {
    this.process.stdin?.write(`${line}\n`);
    return this.answer();
  }

  async status(): Promise<NodeStatus> {
    return (await this.ask('status')) as unknown as NodeStatus;
  }

  /** Waits until the node's counters and slow path satisfy a condition; fails with what they were at the end. */
  async until(holds: (status: NodeStatus) => boolean): Promise<NodeStatus> {
    const slowPath: SlowPathNote[] = [];
    for (let attempt = 0; ; attempt++) {
      const status = await this.status();
      slowPath.push(...status.slowPath);
      const soFar = { ...status, slowPath };
      if (holds(soFar)) return soFar;
      if (attempt === 600) throw new Error(`never came about: ${JSON.stringify(soFar)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Ends it in the regular way; resolves with its exit status. */
  async end(line: 'stop' | 'exit'): Promise<number | null> {
    const exited = once(this.process, 'exit');
    this.process.stdin?.write(`${line}\n`);
    return ((await exited) as [number | null])[0];
  }
}

export interface Overlay {
  readonly a: Namespace;
  readonly b: Namespace;
  readonly nodeA: BareNode;
  readonly nodeB: BareNode;
}

export const A_UNDERLAY = '192.168.9.1';
export const B_UNDERLAY = '192.168.9.2';
/** The overlay devices' own addresses. */
export const A_OVERLAY = '10.5.1.0';
export const B_OVERLAY = '10.5.2.0';

export function configOf(side: 'a' | 'b', options: Partial<BareNodeConfig> = {}): BareNodeConfig {
  const [own, other] = side === 'a' ? [1, 2] : [2, 1];
  return {
    network: '10.5.0.0/16',
    subnet: `10.5.${own}.0/24`,
    externalAddress: `192.168.9.${own}`,
    mtuBytes: 1472,
    leases: [[`10.5.${other}.0/24`, `192.168.9.${other}`]],
    ...options,
  };
}

/** Builds the picture above for the time of `body`. */
export async function withOverlay(
  prefix: string,
  options: Partial<BareNodeConfig>,
  body: (overlay: Overlay) => Promise<void>,
): Promise<void> {
  const made: Namespace[] = [];
  try {
    const a = await Namespace.create(`${prefix}-a`);
    made.push(a);
    const b = await Namespace.create(`${prefix}-b`);
    made.push(b);
    await a.connect('eth0', b, 'eth0');
    await a.addAddress('eth0', `${A_UNDERLAY}/24`);
    await b.addAddress('eth0', `${B_UNDERLAY}/24`);
    const nodeA = await BareNode.start(a, configOf('a', options));
    const nodeB = await BareNode.start(b, configOf('b', options));
    await body({ a, b, nodeA, nodeB });
  } finally {
    await removeNamespaces(made);
  }
}
