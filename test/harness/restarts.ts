/** The ways in which an agent makes room for the next one, each under traffic whose every packet is accounted for. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster } from './cluster.js';
import { compileHarness } from './compile.js';
import { untilReached } from './pod-traffic.js';
import { withPacedTraffic, type TrafficAccount } from './paced-traffic.js';
import { ServiceManager } from './service-manager.js';

/** Datagrams a second each way. */
const RATE = 1000;

/** Traffic before the restart, and after it. */
const MARGIN_MS = 1500;

/** What the tests and the benchmark of restarts are made of, compiled. */
export interface RestartPrograms {
  readonly serviceManager: string;
  readonly pacedTraffic: string;
}

export async function compileRestartPrograms(folder: string): Promise<RestartPrograms> {
  const [serviceManager, pacedTraffic] = await Promise.all([
    compileHarness('service_manager.cc', folder),
    compileHarness('paced_traffic.cc', folder),
  ]);
  return { serviceManager, pacedTraffic };
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
  { serviceManager }: RestartPrograms,
  body: (manager: ServiceManager) => Promise<void>,
  storeMax?: number,
): Promise<void> {
  const [node] = cluster.nodes;
  if (node.daemon?.running === true) await node.daemon.stop();
  const manager = new ServiceManager({ program: serviceManager, node, storeMax });
  try {
    await manager.untilReady('start');
    await body(manager);
  } finally {
    await manager.close();
  }
}
