/**
 * flannel's udp backend: inner packets, read from a TUN device, travel as the payload of UDP datagrams from node to node
 * (flannel calls the device `flannel0` and uses port 8285). Here its parts are put together; the packets themselves are
 * the business of the dataplane's workers.
 */
import { Dataplane } from '../../dataplane/dataplane.js';
import { ForwardingTable } from '../../dataplane/forwarding-table.js';
import { closeFd, openTun, openUdp, setTunPersistent, type TunDevice } from '../../dataplane/native.js';
import { OffloadLadder } from '../../dataplane/offloads.js';
import { probeTunOffloads, probeUdpOffloads } from '../../dataplane/probe-offloads.js';
import type { ExternalInterface } from '../../host/external-interface.js';
import { listInterfaces } from '../../host/interfaces.js';
import { configureLink, type LinkSettings } from '../../host/link.js';
import { RawSender } from '../../host/raw-sender.js';
import { listRoutes } from '../../host/routes.js';
import type { NetworkConfig } from '../../subnet/network-config.js';
import type { Backend, BackendOptions, RunningBackend } from '../backend.js';
import { Explainer } from './explain.js';
import { IcmpRateLimiter } from './icmp-rate-limit.js';
import { LeaseForwarding } from './lease-forwarding.js';
import { LinkKeeper } from './link-keeper.js';
import { overlayMtu } from './mtu.js';
import { assertRouteIsFree, chooseOverlayDevice } from './overlay-device.js';
import { OwnAddresses } from './own-addresses.js';
import { RunningUdpBackend } from './running-udp-backend.js';
import { SlowPath } from './slow-path.js';
import { StrangerLog } from './stranger-log.js';
import { checkUdpConfig } from './udp-config.js';

/**
 * On any number of processors: a flow stays with one worker, and all that one node sends to another arrives at one socket.
 * docs/performance.md has what two of them gave; the operator may ask for more (`--workers`).
 */
const DEFAULT_WORKERS = 1;

/**
 * Packets that wait in the kernel for a worker, as many as an Ethernet device has room for. A TUN's own default of 500
 * is less than what one TCP stream has under way here: measured, it drops some thousand packets in a second, and with
 * 1000 next to none, at the same throughput and latency.
 */
const DEVICE_QUEUE_PACKETS = 1000;

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
    leases.replaceAll(options.leases);

    const cleanup: (() => void | Promise<void>)[] = [];
    try {
      // The port comes first: where another daemon holds it, nothing on this host is touched.
      const sockets = openUdp({ address: external.address, port: config.backend.port, sockets: workers });
      cleanup.push(() => sockets.forEach(closeFd));
      const device = await this.openDevice(options, workers, offloads);
      cleanup.push(() => device.fds.forEach(closeFd));
      // What arrives at a socket that no worker reads would be lost.
      sockets.splice(device.fds.length).forEach(closeFd);
      probeTunOffloads(device, workers, offloads);
      probeUdpOffloads(sockets, offloads);
      const link: LinkSettings = {
        name: device.name,
        networkId: options.networkId,
        mtuBytes,
        queuePackets: DEVICE_QUEUE_PACKETS,
        address: lease.subnet.address,
        network: config.network,
      };
      await configureLink(link);
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
        logger,
      });
      cleanup.push(() => dataplane.stop());
      return new RunningUdpBackend({
        type: this.type,
        deviceName: device.name,
        mtuBytes,
        port: config.backend.port,
        table,
        leases,
        slowPath,
        link: new LinkKeeper(link, logger),
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
        release: () => releaseAll(cleanup),
      });
    } catch (error) {
      await releaseAll(cleanup);
      throw error;
    }
  }

  /** Opens this network's device from before, or a new one of the first free name. */
  private async openDevice(
    { config, networkId, logger }: BackendOptions,
    queues: number,
    offloads: OffloadLadder,
  ): Promise<TunDevice> {
    const [interfaces, routes] = await Promise.all([listInterfaces(), listRoutes()]);
    const { name, exists } = chooseOverlayDevice(interfaces, networkId);
    assertRouteIsFree(routes, config.network, name);
    // For a new device the kernel picks the name, so that two daemons that start at once get one each.
    const device = openTun({
      name: exists ? name : 'flannel%d',
      queues: offloads.wants('tun-multi-queue') ? queues : 1,
      virtio: offloads.wants('tun-vnet'),
    });
    if (exists) logger.debug(`${device.name} is there from before`);
    return device;
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
