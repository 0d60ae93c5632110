/** The ways in which an agent makes room for the next one, each under traffic whose every packet is accounted for. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { handoverPath } from '../../src/flanneld/handover.js';
import { PREFIX, type Cluster, type ClusterNode } from './cluster.js';
import { compileHarness } from './compile.js';
import type { Daemon, DaemonOptions } from './daemon.js';
import { untilReached } from './pod-traffic.js';
import { withPacedTraffic, type TrafficAccount } from './paced-traffic.js';
import { ServiceManager, type ServiceManagerOptions } from './service-manager.js';
import { Listener } from './traffic.js';
import { unitLauncher } from './unit-launcher.js';
import { until } from './until.js';

/** Datagrams a second each way. */
const RATE = 1000;

/** What an agent that is killed, or a worker that fails, may have in its hands, each way. */
export const HANDFUL = 64;

/** How far the next agent of a takeover gets before it is killed; see `half-successor.ts`. */
export const HANDOVER_STEPS = ['offered', 'parked', 'taken'] as const;
export type HandoverStep = (typeof HANDOVER_STEPS)[number];

/** Traffic before the restart, and after it. */
const MARGIN_MS = 1500;

/** What the tests and the benchmark of restarts are made of, compiled. */
export interface RestartPrograms {
  readonly serviceManager: string;
  /** What the service manager starts: the agent, with the rights that the shipped unit gives. */
  readonly service: string;
  readonly pacedTraffic: string;
}

export async function compileRestartPrograms(folder: string): Promise<RestartPrograms> {
  const [serviceManager, service, pacedTraffic] = await Promise.all([
    compileHarness('service_manager.cc', folder),
    unitLauncher(folder),
    compileHarness('paced_traffic.cc', folder),
  ]);
  return { serviceManager, service, pacedTraffic };
}

/** Lets traffic run between the first pods of the two nodes, and `restart` happen in the midst of it. */
export async function underTraffic(
  cluster: Cluster,
  { pacedTraffic }: RestartPrograms,
  restart: () => Promise<void>,
): Promise<TrafficAccount> {
  const [from, to] = cluster.nodes.map(({ pods }) => pods[0]);
  await untilReached(from, to);
  await untilReached(to, from);
  return withPacedTraffic({ program: pacedTraffic, from, to, rate: RATE }, async () => {
    await sleep(MARGIN_MS);
    await restart();
    await sleep(MARGIN_MS);
  });
}

/** Hands the first node's daemon over to a service manager for the time of `body`. */
export async function underServiceManager(
  cluster: Cluster,
  { serviceManager, service }: RestartPrograms,
  body: (manager: ServiceManager) => Promise<void>,
  options: Omit<ServiceManagerOptions, 'program' | 'node'> = {},
): Promise<void> {
  const [node] = cluster.nodes;
  if (node.daemon?.running === true) await node.daemon.stop();
  const manager = new ServiceManager({ program: serviceManager, daemon: service, node, ...options });
  try {
    await manager.untilReady('start');
    await body(manager);
  } finally {
    await manager.close();
  }
}

/** Takes over from the node's daemon, which has to end well. */
export async function takeOver(
  node: ClusterNode,
  flags: readonly string[] = [],
  options: DaemonOptions = {},
): Promise<void> {
  const old = node.running;
  await node.start(['--takeover', ...flags], options);
  const { status } = await old.ended();
  if (status !== 0) throw new Error(`the agent that was taken over from ended with ${status}: ${old.evidence}`);
}

/** Lets the next agent of a takeover be killed at a step, and the node's daemon find that out. */
export async function failToTakeOver({ running, namespace }: ClusterNode, step: HandoverStep): Promise<void> {
  const complaints = (): number => running.said(/not taken over: the other one has ended; going on/).length;
  const before = complaints();
  const program = fileURLToPath(new URL('./half-successor.js', import.meta.url));
  const successor = new Listener(namespace, [handoverPath(running.controlSocket), PREFIX, step], program);
  try {
    await successor.ready();
  } finally {
    await successor.kill();
  }
  await until('the running agent goes on', () => complaints() > before, { evidence: () => running.evidence });
}

/** The environment of an agent whose workers `failWorkers` can make fail. */
export function withWorkerFaults(): { readonly NODE_OPTIONS: string } {
  return { NODE_OPTIONS: `--import=${new URL('./worker-fault.js', import.meta.url).href}` };
}

/** What an agent is made to do at a call of the addon; see `native-fault.ts`. */
export type NativeFault = `kill ${string} ${number}` | `hold ${string} ${number} ${string}`;

/** The environment of an agent that is ended or held at that call. */
export function withNativeFault(fault: NativeFault): Readonly<Record<string, string>> {
  return { NODE_OPTIONS: `--import=${new URL('./native-fault.js', import.meta.url).href}`, NATIVE_FAULT: fault };
}

/** Makes each packet worker of an agent throw once, and waits until each has been started again. */
export async function failWorkers(agent: Pick<Daemon, 'pid' | 'status' | 'evidence'>): Promise<void> {
  const restarts = async (): Promise<readonly number[]> =>
    (await agent.status()).backend?.workers.map((worker) => worker.restarts) ?? [];
  const before = await restarts();
  process.kill(agent.pid, 'SIGUSR2');
  await until(
    'every packet worker is started again',
    async () => (await restarts()).every((count, index) => count > before[index]),
    { evidence: () => agent.evidence },
  );
}
