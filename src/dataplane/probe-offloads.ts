/** Tries the rungs of the ladder on an open device and on open sockets, and leaves switched on what works. */
import { setTunOffloads, tryUdpOffload, type TunDevice } from './native.js';
import { refusal, type OffloadLadder, type OffloadName } from './offloads.js';

const SINGLE_QUEUE = 'the kernel refuses a second queue (Linux 3.8), or to keep each flow on one (4.16)';

/** What the device was opened with, and what it may hand over in one piece. */
export function probeTunOffloads(device: TunDevice, queues: number, ladder: OffloadLadder): void {
  const several = queues > 1 ? (device.fds.length > 1 ? undefined : SINGLE_QUEUE) : 'one worker';
  ladder.tried('tun-multi-queue', several);
  ladder.tried('tun-vnet', device.virtio ? undefined : 'the kernel knows no virtio headers for this device');
  const [fd] = device.fds;
  const usable = { checksum: false, tso: false, uso: false };
  if (!ladder.isOn('tun-vnet')) {
    for (const name of ['tun-tso', 'tun-uso'] as const) ladder.tried(name, 'it needs tun-vnet');
    return;
  }
  const checksums = setTunOffloads(fd, { ...usable, checksum: true });
  usable.checksum = checksums === 0;
  for (const [name, key] of [
    ['tun-tso', 'tso'],
    ['tun-uso', 'uso'],
  ] as const) {
    if (!ladder.wants(name)) continue;
    // Without checksums the kernel would take the request and hand over no segments.
    const result = usable.checksum ? setTunOffloads(fd, { ...usable, [key]: true }) : checksums;
    usable[key] = result === 0;
    ladder.tried(name, result === 0 ? undefined : refusal(name, result));
  }
}

const UDP_OFFLOADS: readonly OffloadName[] = ['udp-segment', 'udp-gro', 'sendmmsg', 'recvmmsg'];

/**
 * Switches on what is in use once more, after another process may have probed otherwise.
 * @param fd - a queue of the device
 */
export function restoreTunOffloads(fd: number, ladder: OffloadLadder): void {
  if (!ladder.isOn('tun-vnet')) return;
  setTunOffloads(fd, { checksum: true, tso: ladder.isOn('tun-tso'), uso: ladder.isOn('tun-uso') });
}

/** What the tunnel's sockets can do. */
export function probeUdpOffloads(socketFds: readonly number[], ladder: OffloadLadder): void {
  for (const name of UDP_OFFLOADS) {
    if (!ladder.wants(name)) continue;
    const result = socketFds.map((fd) => tryUdpOffload(fd, name)).find((one) => one < 0);
    ladder.tried(name, result === undefined ? undefined : refusal(name, result));
  }
}
