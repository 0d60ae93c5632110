import { backendOfType } from '../backend/registry.js';
import type { BackendStatus } from '../backend/status.js';
import { BACKEND_TYPES } from '../backend/backend-types.js';
import type { DescriptorStore, StoredDescriptor } from '../backend/descriptor-store.js';
import { childAbort } from '../child-abort.js';
import { systemClock } from '../clock.js';
import { ProbeResponder } from '../debug/probe/responder.js';
import type { Logger } from '../log.js';
import { TapHub } from '../observe/tap-hub.js';
import { ServiceNotifier } from '../observe/sd-notify.js';
import { StoreStatistics } from '../observe/store-statistics.js';
import { LazySubnetManager } from '../subnet/lazy-subnet-manager.js';
import { VERSION } from '../version.js';
import { AgentServers } from './agent-servers.js';
import { AgentState } from './agent-state.js';
import { assertMayAdministerNetwork } from './capabilities.js';
import { Agent } from './agent.js';
import type { FlanneldOptions } from './flags.js';
import { estateOf } from './estate.js';
import { HandoverServer, handoverPath, Predecessor } from './handover.js';
import { KnownLeases } from './known-leases.js';
import { Machine } from './machine.js';
import { probeNodeOf, probeServiceOf } from './probe-service.js';
import { SnapshotFile, snapshotPath } from './snapshot-file.js';

/**
 * Puts an agent together from its flags, on this machine and a real etcd, and lets it live until `stop` aborts.
 * @throws UsageError for flags that cannot be used; FlannelError when this machine does not let it go on
 */
export async function runAgent(options: FlanneldOptions, logger: Logger, stop: AbortSignal): Promise<void> {
  const statistics = new StoreStatistics();
  const manager = new LazySubnetManager(async () => {
    const { createEtcdSubnetManager } = await import('../subnet/etcd/etcd-subnet-manager.js');
    const etcd = createEtcdSubnetManager({
      ...options.etcd,
      backendTypes: BACKEND_TYPES,
      logger,
      observer: statistics,
    });
    logger.info('leases are kept in the store', { store: etcd.name });
    return etcd;
  });
  const leases = new KnownLeases();
  const state = new AgentState(options, leases, statistics);
  const taps = new TapHub(state);
  const probeNode = probeNodeOf({ state, leases, manager, hub: taps });
  const responder = new ProbeResponder(probeNode, logger);
  state.probes = responder;
  const servers = new AgentServers(options, state, { taps, prober: probeServiceOf(probeNode) });

  if (options.takeover) assertMayAdministerNetwork();
  const predecessor = options.takeover
    ? await Predecessor.ask(handoverPath(options.controlSocket), options.etcd.prefix, logger)
    : undefined;
  const handed = [...(predecessor?.descriptors ?? [])];
  const snapshots = new SnapshotFile(snapshotPath(options.subnetFile), logger, predecessor?.snapshot);
  const end = childAbort(stop);
  let handover: HandoverServer | undefined;
  let ceded = false;
  const serve = async (inherited: readonly StoredDescriptor[]): Promise<void> => {
    await servers.start(inherited);
    const leave = (taken: boolean): void => {
      ceded = taken;
      end.abort();
    };
    const estate = estateOf({ options, state, servers, snapshots, leave });
    handover = new HandoverServer(handoverPath(options.controlSocket), estate, logger);
  };
  // A stop that takes too long ends the process where it stands.
  const removeSockets = (): void => {
    handover?.removeSocket();
    if (!ceded) servers.removeSocket();
  };
  process.on('exit', removeSockets);
  try {
    if (predecessor === undefined) await serve([]);
    logger.info(`flanneld ${VERSION} starts`, { pid: process.pid });
    const host = new Machine(options, logger);
    const service = await serviceManager(logger);
    await new Agent({
      ...{ options, logger, manager, leases, state, host, ...service, snapshots, backendOfType, responder },
      clock: systemClock,
      ...(predecessor && {
        descriptors: { take: () => handed.splice(0), keep() {}, forgetAll() {} },
        predecessor: {
          makeRoom: () => predecessor.makeRoom(),
          running: () => predecessor.running(),
          async ended() {
            await predecessor.ended();
            await serve(predecessor.listeners);
          },
          async leave() {
            await predecessor.leave();
            await serve(predecessor.listeners);
          },
        },
      }),
    }).run(end.signal);
    tellTraffic(state.backend(), logger);
    if (ceded) logger.info('ended: another flanneld has taken over');
    else logger.info(state.lease === undefined ? 'stopped' : 'stopped; the lease stays in the store');
  } finally {
    manager.close();
    handover?.close();
    await servers.close(ceded);
    process.off('exit', removeSockets);
  }
}

/** What this run has done, which nobody can ask for any more. */
function tellTraffic(backend: BackendStatus | undefined, logger: Logger): void {
  if (backend === undefined) return;
  const { encap, decap } = backend;
  const dropped = Object.entries({ encap, decap }).flatMap(([direction, counters]) =>
    Object.entries(counters.dropped).map(([reason, packets]) => `${direction} ${reason} ${packets}`),
  );
  logger.info('packets carried in this run', {
    encap: encap.packets,
    decap: decap.packets,
    dropped: dropped.length === 0 ? undefined : dropped.join(', '),
  });
}

/** What speaks to the service manager, where there is one. */
async function serviceManager(
  logger: Logger,
): Promise<{ readonly notifier: ServiceNotifier | undefined; readonly descriptors?: DescriptorStore }> {
  if (process.env.NOTIFY_SOCKET === undefined) return { notifier: undefined };
  const [{ ServiceDescriptors }, { notifySocket: send, notifyBarrier: barrier, setInherited }] = await Promise.all([
    import('../observe/service-descriptors.js'),
    import('../dataplane/passed-descriptors.js'),
  ]);
  const calls = { send, barrier, keepFromChildren: (fd: number) => setInherited(fd, false) };
  return {
    notifier: ServiceNotifier.create(process.env, send, logger),
    descriptors: ServiceDescriptors.open(process.env, process.pid, calls, logger),
  };
}
