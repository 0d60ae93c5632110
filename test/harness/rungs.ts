/** The rungs of the offload ladder that tests carry real traffic on. */
import { OFFLOADS, type OffloadName } from '../../src/dataplane/offloads.js';

export interface RungSet {
  readonly name: string;
  /** What `--disable-offload` gets. */
  readonly disabledOffloads: readonly OffloadName[];
  /** Workers each way, and with them queues of the device. */
  readonly workers: number;
}

const without = (...disabledOffloads: OffloadName[]): RungSet => ({
  name: `without ${disabledOffloads.join(' and ')}`,
  disabledOffloads,
  workers: 1,
});

/** From all that the kernel has down to nothing; each step is what some kernel, or some sandbox, is like. */
export const RUNG_SETS: readonly RungSet[] = [
  { name: 'all on, with two queues', disabledOffloads: [], workers: 2 },
  { name: 'all on', disabledOffloads: [], workers: 1 },
  without('tun-uso'),
  without('tun-tso'),
  without('tun-vnet'),
  without('udp-segment'),
  without('udp-gro'),
  without('udp-segment', 'udp-gro'),
  without('sendmmsg'),
  without('recvmmsg'),
  { name: 'none', disabledOffloads: OFFLOADS.map(({ name }) => name), workers: 1 },
];
