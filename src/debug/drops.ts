/** What the dataplane drops, how fast, and what to do about it: from two looks at the counters. */
import type { BackendStatus, LastDropStatus } from '../backend/status.js';
import { DROP_REASONS, DropReason } from '../dataplane/drop-reasons.js';
import { describePacket, packetFacts, type PacketFacts } from './packet-facts.js';

/** The counters at one moment. */
export interface DropSample {
  /** By a clock that never goes back. */
  readonly atMs: number;
  readonly dropped: Readonly<Record<'encap' | 'decap', Readonly<Record<string, number>>>>;
  readonly last?: readonly LastDropStatus[];
}

/** Packets of one direction that are dropped for one reason: a row of `flannelctl drops`. */
export interface DropLine {
  readonly direction: 'encap' | 'decap';
  /** A stable name. */
  readonly reason: string;
  /** Since the daemon's start. */
  readonly total: number;
  readonly perSecond: number;
  readonly description: string;
  readonly remedy: string;
  /** The last one; `null` where the daemon does not say. */
  readonly last: LastDroppedPacket | null;
}

/** A packet that was dropped, whether or not anybody watched. */
export interface LastDroppedPacket {
  /** ISO 8601. */
  readonly time: string;
  readonly ageSeconds: number;
  readonly inner: PacketFacts;
  /** The other end of the tunnel: who sent the datagram on the way in, whom it was for on the way out; `null` without. */
  readonly outer: string | null;
  /** What the kernel said to it, such as `EPERM`; `null` when it was not asked. */
  readonly error: string | null;
  /** The packet in a line for people. */
  readonly text: string;
}

/** What to do about each reason; `docs/troubleshooting.md` says more. */
const REMEDIES: Readonly<Record<DropReason, string>> = {
  [DropReason.NotIpv4]:
    'IPv6 of a kernel that has it on is harmless; else see who sends it: tcpdump -ni eth0 udp port 8285',
  [DropReason.Truncated]: 'something that is no flannel sends to the port: tcpdump -ni eth0 udp port 8285',
  [DropReason.TtlExceeded]: 'traceroute does that on purpose; else look for a routing loop: flannelctl explain',
  [DropReason.NoLease]: 'is that node there, and in the same etcd prefix? flannelctl leases',
  [DropReason.OwnSubnet]: 'the pod bridge is down or absent: flannelctl doctor',
  [DropReason.OutsideNetwork]: 'a route leads more than the Network into the device: ip route show dev flannel0',
  [DropReason.PacketTooBig]: 'the path is narrower than the interface says: flannelctl doctor, then --mtu',
  [DropReason.SendFailed]: 'a firewall rule, no route, or the interface is down: flannelctl doctor',
  [DropReason.UnknownSender]:
    'a stranger, or a node that sends from another address: the log names it; --trusted-source',
  [DropReason.SpoofedSource]: 'a pod forges addresses, or two nodes share one public IP: flannelctl doctor',
  [DropReason.ForeignDestination]: "the sender's leases are old, or its lease changed hands: flannelctl leases there",
  [DropReason.WriteFailed]: 'is flannel0 up? flannelctl doctor',
};

/** The counters of a running backend. */
export function dropSample(
  { encap, decap, lastDrops }: Pick<BackendStatus, 'encap' | 'decap' | 'lastDrops'>,
  atMs: number,
): DropSample {
  return { atMs, dropped: { encap: encap.dropped, decap: decap.dropped }, last: lastDrops };
}

/**
 * A line for each direction and reason that ever occurred, those that occur now first.
 * @param nowMs - wall clock, for the ages of the last ones
 */
export function dropLines(before: DropSample, after: DropSample, nowMs = Date.now()): DropLine[] {
  const seconds = (after.atMs - before.atMs) / 1000;
  const lines = (['encap', 'decap'] as const).flatMap((direction) =>
    Object.entries(after.dropped[direction])
      .filter(([, total]) => total > 0)
      .map(([reason, total]): DropLine => {
        const info = DROP_REASONS.find(({ name }) => name === reason);
        // A daemon that was started in between counts from zero.
        const since = Math.max(0, total - (before.dropped[direction][reason] ?? 0));
        return {
          direction,
          reason,
          total,
          perSecond: seconds > 0 ? since / seconds : 0,
          description: info?.description ?? 'not known to this flannelctl',
          remedy: info === undefined ? 'use the flannelctl that came with the daemon' : REMEDIES[info.reason],
          last: lastOf(after, direction, reason, nowMs),
        };
      }),
  );
  return lines.sort((a, b) => b.perSecond - a.perSecond || b.total - a.total);
}

function lastOf(
  { last = [] }: DropSample,
  direction: 'encap' | 'decap',
  reason: string,
  nowMs: number,
): LastDroppedPacket | null {
  const found = last.find((one) => one.direction === direction && one.reason === reason);
  if (found === undefined) return null;
  const { time, lengthBytes, underlayAddress: outer, error } = found;
  const packet = Buffer.from(found.packet, 'hex');
  const inner = packetFacts(packet, lengthBytes);
  const parts = [describePacket(packet, lengthBytes), `length ${lengthBytes}`];
  if (inner.ttl !== null) parts.push(`ttl ${inner.ttl}`);
  if (outer !== null) parts.push(direction === 'encap' ? `to ${outer}` : `from ${outer}`);
  if (error !== null) parts.push(`(${error})`);
  const ageSeconds = Math.max(0, (nowMs - Date.parse(time)) / 1000);
  return { time, ageSeconds, inner, outer, error, text: parts.join(' ') };
}
