/**
 * The order of a start under traffic, each step loading what it needs and no more, for packets wait until the fourth:
 *
 * 1. signals, flags, rights (`main.ts`, `confinement.ts`);
 * 2. the workers' threads, and the questions to this machine (`head-start.ts`);
 * 3. what the last run has left: the service manager's descriptors or a running agent's, and the snapshot;
 * 4. the backend on those: packets flow (`Agent`);
 * 5. servers, taps, probes, handover (`agent-services.ts`);
 * 6. the store, and with its answers the firewall rules and subnet.env (`Agent`).
 *
 * Where nothing was left, the fifth comes before the fourth, so that an agent that is there already is found by its
 * control socket before anything is touched; and the backend comes with the sixth.
 */
import { backendOfType } from '../backend/registry.js';
import type { BackendStatus } from '../backend/status.js';
import { BACKEND_TYPES } from '../backend/backend-types.js';
import { childAbort } from '../child-abort.js';
import { systemClock } from '../clock.js';
import type { Logger } from '../log.js';
import { ServiceNotifier } from '../observe/sd-notify.js';
import type { ServiceDescriptors } from '../observe/service-descriptors.js';
import { StoreStatistics } from '../observe/store-statistics.js';
import { LazySubnetManager } from '../subnet/lazy-subnet-manager.js';
import { VERSION } from '../version.js';
import type { AgentServices } from './agent-services.js';
import { AgentState } from './agent-state.js';
import { assertMayAdministerNetwork } from './capabilities.js';
import { Agent } from './agent.js';
import type { FlanneldOptions } from './flags.js';
import type { Predecessor } from './handover.js';
import type { HeadStart } from './head-start.js';
import { KnownLeases } from './known-leases.js';
import { Machine } from './machine.js';
import { SnapshotFile, snapshotPath } from './snapshot-file.js';

/**
 * Puts an agent together from its flags, on this machine and a real etcd, and lets it live until `stop` aborts.
 * @throws UsageError for flags that cannot be used; FlannelError when this machine does not let it go on
 */
export async function runAgent(
  options: FlanneldOptions,
  { commands }: HeadStart,
  logger: Logger,
  stop: AbortSignal,
): Promise<void> {
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
  const end = childAbort(stop);
  let ceded = false;
  const leave = (taken: boolean): void => {
    ceded = taken;
    end.abort();
  };

  const service = await serviceManager(logger);
  // Not late, as in other starts: the running agent is not to end for flags that this one cannot use, and packets flow there.
  if (options.takeover) await manager.load();
  const predecessor = options.takeover ? await predecessorOf(options, logger) : undefined;
  const handed = [...(predecessor?.descriptors ?? [])];
  const snapshots = new SnapshotFile(snapshotPath(options.subnetFile), logger, predecessor?.snapshot);
  let services: AgentServices | undefined;
  const serve = async (): Promise<void> => {
    if (services !== undefined) return;
    const { AgentServices } = await import('./agent-services.js');
    services = new AgentServices({ options, state, leases, manager, snapshots, logger, leave });
    await services.start(predecessor?.listeners ?? []);
  };
  // A stop that takes too long ends the process where it stands.
  const removeSockets = (): void => services?.removeSockets(ceded);
  process.on('exit', removeSockets);
  try {
    if (predecessor === undefined && service.descriptors?.waiting !== true) await serve();
    logger.info(`flanneld ${VERSION} starts`, { pid: process.pid });
    await new Agent({
      ...{ options, logger, manager, leases, state, ...service, snapshots, backendOfType },
      host: new Machine(options, logger, commands.run),
      run: commands.run,
      serve: async () => {
        commands.end();
        await serve();
      },
      clock: systemClock,
      responder: { run: async (signal) => services?.responder.run(signal) },
      ...(predecessor && {
        descriptors: { take: () => handed.splice(0), keep() {}, forgetAll() {} },
        predecessor,
      }),
    }).run(end.signal);
    tellTraffic(state.backend(), logger);
    if (ceded) logger.info('ended: another flanneld has taken over');
    else logger.info(state.lease === undefined ? 'stopped' : 'stopped; the lease stays in the store');
  } finally {
    manager.close();
    await services?.close(ceded);
    process.off('exit', removeSockets);
  }
}

/**
 * The agent that is to make room for this one, if there is one.
 * @throws FlannelError `HOST` or `CONTROL`
 */
async function predecessorOf(options: FlanneldOptions, logger: Logger): Promise<Predecessor | undefined> {
  assertMayAdministerNetwork();
  const { handoverPath, Predecessor } = await import('./handover.js');
  return Predecessor.ask(handoverPath(options.controlSocket), options.etcd.prefix, logger);
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
): Promise<{ readonly notifier: ServiceNotifier | undefined; readonly descriptors?: ServiceDescriptors }> {
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
