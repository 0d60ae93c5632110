/**
 * The two ends of the tunnel on this host: the queues of the overlay device and the sockets of the tunnel's port. While no
 * agent runs, packets wait in them as long as somebody has them open: the store keeps them for the next agent, which takes
 * them over where they are what it would open itself.
 */
import { closeFd, openTun, openUdp, type TunDevice } from '../../dataplane/native.js';
import { boundSocket, discardQueue, queueShape } from '../../dataplane/passed-descriptors.js';
import type { OffloadLadder } from '../../dataplane/offloads.js';
import { MisfitError } from '../../errors.js';
import { listInterfaces } from '../../host/interfaces.js';
import { listRoutes } from '../../host/routes.js';
import type { BackendOptions } from '../backend.js';
import { noDescriptorStore, type StoredDescriptor } from '../descriptor-store.js';
import { assertRouteIsFree, chooseOverlayDevice } from './overlay-device.js';

/** Under these names, with their number, the two are kept. Another form of what they carry would need other names. */
const QUEUE = 'tun-';
const SOCKET = 'udp-';

/** The running agent could not read what arrives in one piece, should it have to go on. */
const TAKEN_OVER_WITHOUT = 'the sockets were taken over without it: a restart without --takeover asks for it';

export interface TunnelEnds {
  readonly device: TunDevice;
  /** As many as queues, or fewer. */
  readonly sockets: readonly number[];
  /** All of them, by the names that they are kept under. */
  readonly named: readonly StoredDescriptor[];
  /** Both were left by an earlier process: what has come since waits in them. */
  readonly adopted: boolean;
}

/** @throws FlannelError `HOST` or `BACKEND`; MisfitError where the running agent has to leave its place before */
export async function openTunnelEnds(
  options: BackendOptions,
  workers: number,
  offloads: OffloadLadder,
): Promise<TunnelEnds> {
  const { config, external, networkId, descriptors = noDescriptorStore, run, logger } = options;
  const [interfaces, routes] = await Promise.all([listInterfaces(run), listRoutes(run)]);
  const { name, exists } = chooseOverlayDevice(interfaces, networkId);
  const wantedDevice = {
    name,
    queues: offloads.wants('tun-multi-queue') ? workers : 1,
    virtio: offloads.wants('tun-vnet'),
  };
  const stored = descriptors.take();
  const adoptedDevice = adoptDevice(stored, wantedDevice);
  const wantedSockets = {
    address: external.address,
    port: config.backend.port,
    sockets: Math.min(workers, adoptedDevice?.fds.length ?? workers),
  };
  const adoptedSockets = adoptSockets(stored, wantedSockets, offloads.wants('udp-gro'));
  const whole = adoptedDevice !== undefined && adoptedSockets !== undefined;
  const used = [...(adoptedDevice?.fds ?? []), ...(adoptedSockets ?? [])];
  const unused = stored.filter(({ fd }) => !used.includes(fd));
  if (options.predecessor !== undefined) {
    // They are the running agent's, which may have to go on with them: nothing is taken from it.
    if (!whole || unused.length > 0) {
      stored.forEach(({ fd }) => closeFd(fd));
      throw new MisfitError('the queues and sockets of the running flanneld do not fit these flags');
    }
    if (adoptedSockets.some((fd) => boundSocket(fd)?.gro !== true)) offloads.tried('udp-gro', TAKEN_OVER_WITHOUT);
  }
  if (unused.length > 0) {
    const names = unused.map((descriptor) => descriptor.name).join(', ');
    logger.info('descriptors of the last run do not fit and are closed', { names });
    for (const { fd } of unused) discardQueue(fd);
  }
  // Also those of a backend that ran in this process: a device and a port have one owner.
  if (!whole || unused.length > 0) descriptors.forgetAll();

  const opened: number[] = [...used];
  try {
    assertRouteIsFree(routes, config.network, name);
    // The port comes first: where another daemon holds it, nothing on this host is touched.
    const sockets = [...(adoptedSockets ?? openUdp(wantedSockets))];
    opened.push(...sockets);
    // For a new device the kernel picks the name, so that two daemons that start at once get one each.
    const device = adoptedDevice ?? openTun({ ...wantedDevice, name: exists ? name : 'flannel%d' });
    opened.push(...device.fds);
    if (exists) logger.debug(`${device.name} is there from before`);
    // What arrives at a socket that no worker reads would be lost.
    sockets.splice(device.fds.length).forEach(closeFd);
    const named = [
      ...device.fds.map((fd, index) => ({ name: `${QUEUE}${index}`, fd })),
      ...sockets.map((fd, index) => ({ name: `${SOCKET}${index}`, fd })),
    ];
    if (!whole || unused.length > 0) for (const { name: kept, fd } of named) descriptors.keep(kept, fd);
    return { device, sockets, named, adopted: whole };
  } catch (error) {
    new Set(opened).forEach(closeFd);
    throw error;
  }
}

/** The stored ones of a kind in order; `undefined` unless they are numbered from 0 without gaps. */
function numbered(stored: readonly StoredDescriptor[], kind: string): readonly number[] | undefined {
  const fds: number[] = [];
  const found = stored.filter(({ name }) => name.startsWith(kind));
  for (const { name, fd } of found) fds[Number(name.slice(kind.length))] = fd;
  return found.length > 0 && fds.length === found.length && Object.keys(fds).length === found.length ? fds : undefined;
}

function adoptDevice(
  stored: readonly StoredDescriptor[],
  wanted: { readonly name: string; readonly queues: number; readonly virtio: boolean },
): TunDevice | undefined {
  const fds = numbered(stored, QUEUE);
  if (fds === undefined) return undefined;
  const shapes = fds.map(queueShape);
  const fit = shapes.every(
    (shape) => shape !== undefined && shape.device === wanted.name && shape.virtio === wanted.virtio && !shape.detached,
  );
  // One queue of a device that may have several: the kernel would not keep flows on theirs.
  const enough = fds.length === wanted.queues || (fds.length === 1 && shapes[0]?.multiQueue === true);
  return fit && enough ? { name: wanted.name, fds, virtio: wanted.virtio } : undefined;
}

function adoptSockets(
  stored: readonly StoredDescriptor[],
  wanted: { readonly address: number; readonly port: number; readonly sockets: number },
  groWanted: boolean,
): readonly number[] | undefined {
  const fds = numbered(stored, SOCKET);
  if (fds?.length !== wanted.sockets) return undefined;
  const fit = fds.every((fd) => {
    const bound = boundSocket(fd);
    return bound?.address === wanted.address && bound.port === wanted.port && (groWanted || !bound.gro);
  });
  return fit ? fds : undefined;
}
