/** What the dataplane drops, how fast, and what to do about it: from two looks at the counters. */
import type { BackendStatus } from '../backend/status.js';
import { DROP_REASONS, DropReason } from '../dataplane/drop-reasons.js';

/** The counters at one moment. */
export interface DropSample {
  /** By a clock that never goes back. */
  readonly atMs: number;
  readonly dropped: Readonly<Record<'encap' | 'decap', Readonly<Record<string, number>>>>;
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
export function dropSample({ encap, decap }: Pick<BackendStatus, 'encap' | 'decap'>, atMs: number): DropSample {
  return { atMs, dropped: { encap: encap.dropped, decap: decap.dropped } };
}

/** A line for each direction and reason that ever occurred, those that occur now first. */
export function dropLines(before: DropSample, after: DropSample): DropLine[] {
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
        };
      }),
  );
  return lines.sort((a, b) => b.perSecond - a.perSecond || b.total - a.total);
}
