import { backendOfType } from '../backend/registry.js';
import { BACKEND_TYPES } from '../backend/backend-types.js';
import { systemClock } from '../clock.js';
import { ProbeResponder } from '../debug/probe/responder.js';
import type { Logger } from '../log.js';
import { ControlServer, type ControlAccess } from '../observe/control-server.js';
import type { HealthServer } from '../observe/health-server.js';
import { checkPeers } from '../observe/peer-check.js';
import { TapHub } from '../observe/tap-hub.js';
import { ServiceNotifier } from '../observe/sd-notify.js';
import { StoreStatistics } from '../observe/store-statistics.js';
import { createEtcdSubnetManager } from '../subnet/etcd/etcd-subnet-manager.js';
import { VERSION } from '../version.js';
import { AgentState } from './agent-state.js';
import { Agent } from './agent.js';
import type { FlanneldOptions } from './flags.js';
import { KnownLeases } from './known-leases.js';
import { Machine } from './machine.js';
import { within } from './persistence.js';
import { probeNodeOf, probeServiceOf } from './probe-service.js';
import { SnapshotFile, snapshotPath } from './snapshot-file.js';

/** How long the servers get to end their connections. */
const CLOSE_MS = 200;

/**
 * Puts an agent together from its flags, on this machine and a real etcd, and lets it live until `stop` aborts.
 * @throws UsageError for flags that cannot be used; FlannelError when this machine does not let it go on
 */
export async function runAgent(options: FlanneldOptions, logger: Logger, stop: AbortSignal): Promise<void> {
  const statistics = new StoreStatistics();
  const manager = createEtcdSubnetManager({
    ...options.etcd,
    backendTypes: BACKEND_TYPES,
    logger,
    observer: statistics,
  });
  const leases = new KnownLeases();
  const state = new AgentState(options, leases, statistics);
  let control: ControlServer | undefined;
  let health: HealthServer | undefined;
  try {
    const taps = new TapHub(state);
    const probeNode = probeNodeOf({ state, leases, manager, hub: taps });
    const responder = new ProbeResponder(probeNode, logger);
    state.probes = responder;
    const services = { taps, prober: probeServiceOf(probeNode) };
    control = await ControlServer.listen(options.controlSocket, state, services, await controlAccess(options));
    logger.info(`flanneld ${VERSION} starts`, { pid: process.pid, store: manager.name });
    health = await startHealthServer(options, state);
    const notifier = await createNotifier(logger);
    const host = new Machine(options, logger);
    const snapshots = new SnapshotFile(snapshotPath(options.subnetFile), logger);
    const parts = {
      options,
      logger,
      manager,
      leases,
      state,
      host,
      notifier,
      snapshots,
      clock: systemClock,
      backendOfType,
      responder,
    };
    await new Agent(parts).run(stop);
    logger.info(state.lease === undefined ? 'stopped' : 'stopped; the lease stays in the store');
  } finally {
    manager.close();
    await within(CLOSE_MS, Promise.all([control?.close(), health?.close()]));
  }
}

async function controlAccess({ controlGroup }: FlanneldOptions): Promise<ControlAccess> {
  const { lookUpGroup, peerIdentity } = await import('../dataplane/native.js');
  const groupId = controlGroup === undefined ? undefined : lookUpGroup(controlGroup);
  return { groupId, check: checkPeers(process.getuid?.() ?? 0, groupId, peerIdentity) };
}

async function startHealthServer(options: FlanneldOptions, state: AgentState): Promise<HealthServer | undefined> {
  const { address, port } = options.health;
  if (port === 0) return undefined;
  const [{ HealthServer: Server }, { createMetrics }] = await Promise.all([
    import('../observe/health-server.js'),
    import('../observe/metrics.js'),
  ]);
  return Server.listen(address, port, state, await createMetrics(state));
}

async function createNotifier(logger: Logger): Promise<ServiceNotifier | undefined> {
  if (process.env.NOTIFY_SOCKET === undefined) return undefined;
  const { notifySocket } = await import('../dataplane/native.js');
  return ServiceNotifier.create(process.env, notifySocket, logger);
}
