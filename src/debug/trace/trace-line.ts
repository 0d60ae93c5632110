import { datagramEnds } from '../../observe/tap-datagram.js';
import type { TapEvent, TapHello } from '../../observe/tap-protocol.js';
import { formatIpv4, formatPrefix } from '../../packet/address.js';
import { describePacket, packetFacts, type PacketFacts } from '../packet-facts.js';
import { describeVerdict, reasonOf, verdictOf, type Verdict } from '../verdict.js';

/** A packet as `trace --json` prints it, one object a line. */
export interface TracedPacket {
  /** ISO 8601 in UTC, to the nanosecond: when the worker had received the batch that the packet was in. */
  readonly time: string;
  readonly direction: 'encap' | 'decap';
  readonly verdict: Verdict;
  /** `null` unless it was dropped. */
  readonly reason: string | null;
  readonly inner: PacketFacts;
  /** Of the datagram around it; `null` for a packet that was dropped before it had a next hop. */
  readonly outer: { readonly source: string; readonly destination: string } | null;
  /** The lease that decided: of the inner destination on the way out, of the inner source on the way in. */
  readonly lease: string | null;
  /** Only of a super-packet: into how many packets it was cut for the wire. */
  readonly segments?: number;
  /** Only of a packet that was merged on the way in: how many were written to the device as one, this one among them. */
  readonly merged?: number;
}

/** An event as `trace --json` prints it. */
export function tracedPacket(event: TapEvent, hello: TapHello): TracedPacket {
  const ends = datagramEnds(event, hello.tunnelEnd);
  return {
    time: isoTime(event.timeNs),
    direction: event.direction,
    verdict: verdictOf(event),
    reason: reasonOf(event, hello),
    inner: packetFacts(event.packet, event.lengthBytes),
    outer:
      ends === undefined
        ? null
        : { source: formatIpv4(ends.source.address), destination: formatIpv4(ends.destination.address) },
    lease: event.lease === undefined ? null : formatPrefix(event.lease),
    ...(event.segments > 1 ? { segments: event.segments } : {}),
    ...(event.merged > 1 ? { merged: event.merged } : {}),
  };
}

/** The parts of a trace's line, for a painter. */
export interface TraceLine {
  readonly time: string;
  readonly node: string;
  readonly direction: 'encap' | 'decap';
  readonly packet: string;
  readonly verdict: string;
  readonly dropped: boolean;
}

/** An event as `trace` prints it for people, in local time. */
export function traceLine(event: TapEvent, hello: TapHello): TraceLine {
  const { packet, lengthBytes, segments, merged } = event;
  const ttl = packetFacts(packet, lengthBytes).ttl;
  const parts = [describePacket(packet, lengthBytes), `length ${lengthBytes}`];
  if (segments > 1) parts.push(`(super-packet, ${segments} packets on the wire)`);
  if (merged > 1) parts.push(`(merged, ${merged} packets delivered as one)`);
  if (ttl !== null) parts.push(`ttl ${ttl}`);
  return {
    time: localTime(event.timeNs),
    node: hello.node,
    direction: event.direction,
    packet: parts.join(' '),
    verdict: describeVerdict(event, hello),
    dropped: event.reason !== 0,
  };
}

/** Nanoseconds since 1970 as ISO 8601 in UTC. */
export function isoTime(timeNs: bigint): string {
  const milliseconds = new Date(Number(timeNs / 1_000_000n)).toISOString();
  return `${milliseconds.slice(0, -1)}${String(timeNs % 1_000_000n).padStart(6, '0')}Z`;
}

/** Time of day in the local time zone, to the microsecond. */
function localTime(timeNs: bigint): string {
  const date = new Date(Number(timeNs / 1_000_000n));
  const two = (value: number): string => String(value).padStart(2, '0');
  const microseconds = String((timeNs / 1000n) % 1_000_000n).padStart(6, '0');
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${microseconds}`;
}
