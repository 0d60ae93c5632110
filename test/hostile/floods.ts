/** Which hostile packets are sent, from where, and how many of each. */

/** Where a flood comes from. */
export type Origin = 'unleased' | 'leased' | 'pod' | 'device';

export interface Flood {
  readonly origin: Origin;
  /** Names of kinds in `test/harness/hostile_sender.cc`. */
  readonly kinds: readonly string[];
  readonly packets: number;
  /**
   * Whether it leaves room in the victim's queue. The kernel counts a train that finds none, or a datagram of which one
   * fragment is lost, as one: only what is not lost can be accounted for one by one.
   */
  readonly paced: boolean;
}

/** What a pod sends of this kind reaches the node's own tunnel port without going through the overlay. */
export const TO_TUNNEL_PORT = 'to-tunnel-port';

/** One datagram, or packet, each. */
const SINGLE_KINDS = [
  ...['truncated', 'lying-lengths', 'options', 'fragments', 'tiny', 'noise', 'version-6'],
  ...['from-multicast', 'from-loopback', 'from-link-local', 'from-own-address'],
  ...['to-multicast', 'to-loopback', 'to-link-local', 'to-own-address'],
  ...['nested-tunnel', TO_TUNNEL_PORT, 'last-hop', 'stream', 'well-formed'],
];

const MAX_HUGE = 20_000;

/** Splits `packets` into floods; there are that many in all. */
export function planFloods(packets: number): readonly Flood[] {
  const part = (share: number): number => Math.floor(packets * share);
  const huge = Math.min(MAX_HUGE, part(0.001));
  const floods: Flood[] = [
    { origin: 'leased', kinds: SINGLE_KINDS, packets: part(0.01), paced: true },
    { origin: 'leased', kinds: ['train'], packets: part(0.6), paced: true },
    { origin: 'unleased', kinds: ['train'], packets: part(0.28), paced: true },
    { origin: 'leased', kinds: ['huge'], packets: huge, paced: true },
    { origin: 'unleased', kinds: ['huge'], packets: huge, paced: true },
    { origin: 'unleased', kinds: SINGLE_KINDS, packets: part(0.04), paced: false },
    { origin: 'pod', kinds: SINGLE_KINDS, packets: part(0.01), paced: false },
    { origin: 'device', kinds: SINGLE_KINDS, packets: part(0.02), paced: false },
  ];
  const rest = packets - floods.reduce((sum, flood) => sum + flood.packets, 0);
  return [...floods, { origin: 'leased', kinds: SINGLE_KINDS, packets: rest, paced: false }];
}
