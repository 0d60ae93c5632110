/**
 * flannel's udp backend: inner packets, read from a TUN device, travel as the payload of UDP datagrams from node to node
 * (flannel calls the device `flannel0` and uses port 8285). Here its parts are put together; the packets themselves are
 * the business of the dataplane's workers.
 */
import { Dataplane } from '../../dataplane/dataplane.js';
import { ForwardingTable } from '../../dataplane/forwarding-table.js';
import { closeFd, setTunPersistent } from '../../dataplane/native.js';
import { OffloadLadder } from '../../dataplane/offloads.js';
import { probeTunOffloads, probeUdpOffloads } from '../../dataplane/probe-offloads.js';
import { DEFAULT_WORKERS } from '../../dataplane/worker-thread.js';
import type { ExternalInterface } from '../../host/external-interface.js';
import { configureLink, type LinkSettings } from '../../host/link.js';
import { RawSender } from '../../host/raw-sender.js';
import type { NetworkConfig } from '../../subnet/network-config.js';
import type { Backend, BackendOptions, RunningBackend } from '../backend.js';
import { Explainer } from './explain.js';
import { IcmpRateLimiter } from './icmp-rate-limit.js';
import { LeaseForwarding } from './lease-forwarding.js';
import { LinkKeeper } from './link-keeper.js';
import { overlayMtu } from './mtu.js';
import { OwnAddresses } from './own-addresses.js';
import { RunningUdpBackend } from './running-udp-backend.js';
import { SlowPath } from './slow-path.js';
import { StrangerLog } from './stranger-log.js';
import { openTunnelEnds } from './tunnel-ends.js';
import { checkUdpConfig } from './udp-config.js';

/**
 * Packets that wait in a queue of the device for a worker. A TUN's own default of 500 is less than what one TCP stream has
 * under way here: measured, it drops some thousand packets in a second, and with 1000 next to none. It is also where packets
 * wait while one agent makes room for the next, which on a busy machine takes seconds. It must not be changed while packets
 * flow: the kernel takes the device's queueing discipline away for that moment, and drops what comes then.
 */
const DEVICE_QUEUE_PACKETS = 4000;

/** Backend type `udp`: checks its configuration and makes a {@link RunningUdpBackend}. */
export class UdpBackend implements Backend {
  readonly type = 'udp';

  validate(config: NetworkConfig, external: ExternalInterface): void {
    checkUdpConfig(config);
    overlayMtu(external, config.backend.mtuBytes);
  }

  leaseAttributes(): { backendType: string } {
    return { backendType: '' };
  }

  async start(options: BackendOptions): Promise<RunningBackend> {
    const { config, external, lease, logger, workers = DEFAULT_WORKERS } = options;
    const { mtuBytes, warning } = overlayMtu(external, options.mtuBytes ?? config.backend.mtuBytes);
    if (warning !== undefined) logger.warn(warning);

    const table = ForwardingTable.create({
      network: config.network,
      subnetLength: config.subnetLength,
      trustedSources: options.trustedSources,
      workers: 2 * workers,
    });
    const offloads = new OffloadLadder(options.disabledOffloads);
    const leases = new LeaseForwarding({
      table,
      network: config.network,
      ownSubnet: lease.subnet,
      ownUnderlayAddresses: [options.publicIp, external.address],
      port: config.backend.port,
      backendType: this.type,
      logger,
    });
    // Before a worker runs: a restart under traffic would take every node for a stranger, and tell pods of unreachable ones.
    await leases.load(options.leases);

    const cleanup: (() => void | Promise<void>)[] = [];
    try {
      const { device, sockets, named, adopted } = await openTunnelEnds(options, workers, offloads);
      cleanup.push(() => [...sockets, ...device.fds].forEach(closeFd));
      if (adopted) logger.info('packets that waited since the last run go on', { device: device.name });
      const probeOffloads = (): void => {
        probeTunOffloads(device, workers, offloads);
        probeUdpOffloads(sockets, offloads);
      };
      if (options.predecessor === undefined) probeOffloads();
      const link: LinkSettings = {
        name: device.name,
        networkId: options.networkId,
        mtuBytes,
        queuePackets: DEVICE_QUEUE_PACKETS,
        address: lease.subnet.address,
        network: config.network,
      };
      // What is adopted is as the last run left it: packets that wait come first.
      if (!adopted) await configureLink(link);
      // Only a device that can be found again is to outlive this process.
      setTunPersistent(device.fds[0], true);

      const rawSender = await RawSender.open();
      cleanup.push(() => rawSender.close());
      const slowPath = new SlowPath({
        sourceAddress: lease.subnet.address,
        send: (packet, done) => rawSender.send(packet, done),
        rateLimiter: new IcmpRateLimiter(),
        strangers: new StrangerLog(logger),
        nowMs: () => performance.now(),
      });
      // Not before the device has its address, and not after the first datagram.
      const ownAddresses = new OwnAddresses(table, logger);
      await ownAddresses.refresh();
      const dataplane = await Dataplane.start({
        table,
        sourceCheck: options.sourceCheck,
        tunFds: device.fds,
        socketFds: sockets,
        offloads,
        externalAddress: external.address,
        onSlowPath: (packet) => slowPath.handle(packet),
        parked: options.predecessor !== undefined,
        logger,
      });
      cleanup.push(() => dataplane.stop());
      if (options.predecessor !== undefined) {
        await options.predecessor.makeRoom();
        // Not before, since it changes what the other one's workers read.
        probeOffloads();
      }
      await dataplane.resume();
      await options.predecessor?.running();
      const keeper = new LinkKeeper(link, logger);
      if (adopted) await keeper.adopt();
      return new RunningUdpBackend({
        type: this.type,
        deviceName: device.name,
        deviceFds: device.fds,
        mtuBytes,
        port: config.backend.port,
        table,
        leases,
        slowPath,
        link: keeper,
        dataplane,
        tap: {
          taps: dataplane.taps(),
          device: device.name,
          tunnelEnd: { address: external.address, port: config.backend.port },
          leaseOf: (address) => table.leaseOf(address),
        },
        explainer: new Explainer({
          table,
          network: config.network,
          subnetLength: config.subnetLength,
          port: config.backend.port,
          backendType: this.type,
          sourceCheck: options.sourceCheck,
          publicIp: options.publicIp,
        }),
        ownAddresses,
        offloads,
        descriptors: named,
        release: () => releaseAll(cleanup),
      });
    } catch (error) {
      await releaseAll(cleanup);
      throw error;
    }
  }
}

/** Undoes in reverse; the first failure does not keep the rest from being undone. */
async function releaseAll(cleanup: (() => void | Promise<void>)[]): Promise<void> {
  for (const undo of cleanup.splice(0).reverse()) {
    try {
      await undo();
    } catch {
      // What cannot be closed is closed already.
    }
  }
}
