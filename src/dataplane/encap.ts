/**
 * Encapsulation: from the pods to the underlay.
 *
 * Theory of operation. What comes in: a batch of IPv4 packets that the host routed into the overlay device, each with a
 * descriptor that says where in the arena it lies and how long it is. What goes out: the same packets, their TTL one
 * lower, each as the payload of one UDP datagram to the node that leases the subnet of its destination. State: none;
 * the table belongs to the control plane, counters and slow path to the worker.
 *
 * A packet of the device may be a super-packet: up to 64 KB of a TCP stream (or of equal-sized UDP datagrams) behind one
 * header, which the kernel left for us to cut (GSO). It gets one verdict; the native transmit call cuts it into the packets
 * that it is on the wire, and those are what is counted, and shown to whoever has to be told.
 *
 * A round has four steps. The native receive call drains the device. {@link Encapsulator.walk} gives each packet a
 * verdict: FORWARD with the next hop's address and port, or a drop reason. The native transmit call sends what is to be
 * forwarded, straight from the arena. {@link Encapsulator.settle} counts, and copies what somebody has to be told about
 * into the slow path; only here is it known whether the kernel took a datagram.
 *
 * A packet's trip: pod 10.5.1.6 pings 10.5.34.7 on another node, 84 bytes with a TTL of 63 after the host forwarded it.
 * It is IPv4, the header has 20 bytes, all 84 are there. `lookup(10.5.34.7)` answers slot 3: 192.168.64.3, port 8285.
 * The TTL becomes 62, the header checksum follows by RFC 1624, and the descriptor says FORWARD, 192.168.64.3, 8285.
 * Had the TTL been 1, or had nobody leased 10.5.34.0/24, its first 576 bytes would go to the main thread, which answers
 * with ICMP. Had the kernel said EMSGSIZE, for the path is narrower than the interface, the packet would go there whole
 * and with the TTL it came with: the main thread refuses or fragments it, as a router does.
 *
 * Options, fragments, DF and ICMP pass as they are. Bytes beyond the packet's total length do not.
 */
import { incrementTtl, ipv4DontFragment } from '../packet/ipv4.js';
import type { CutPacket } from './cut-packet.js';
import {
  ADDRESS,
  DESCRIPTOR_WORDS,
  FIRST_FAILED,
  FIRST_TOO_BIG,
  FORWARD,
  LAST_TOO_BIG,
  MAX_PACKET_BYTES,
  OFFSET,
  PORT,
  SEGMENTS,
  SENT_BYTES,
  SENT_PACKETS,
  TOO_BIG_PACKETS,
  VERDICT,
} from './descriptors.js';
import { DropReason } from './drop-reasons.js';
import { NO_LEASE, OWN_SUBNET } from './forwarding-table-reader.js';
import { decrementTtlUnlessLast, examine } from './inner-packet.js';
import { PacketWalker, type PacketWalkerOptions } from './packet-walker.js';
import { QUOTED_BYTES } from './slow-path.js';

export interface EncapsulatorOptions extends PacketWalkerOptions {
  readonly cut: CutPacket;
}

/** The walk over a batch that came from the overlay device; a worker has one. */
export class Encapsulator extends PacketWalker {
  private readonly cut: CutPacket;
  /** Where it writes. */
  private readonly cutOffset: number;

  constructor(options: EncapsulatorOptions) {
    super(options);
    this.cut = options.cut;
    this.cutOffset = options.arena.length - MAX_PACKET_BYTES;
  }

  protected override decide(at: number): number {
    const { arena, descriptors, table } = this;
    const offset = descriptors[at + OFFSET];
    const fault = examine(arena, descriptors, at);
    if (fault !== FORWARD) return fault;
    if (descriptors[at + SEGMENTS] === 0) return DropReason.Truncated;
    const destination =
      (arena[offset + 16] << 24) | (arena[offset + 17] << 16) | (arena[offset + 18] << 8) | arena[offset + 19];
    const slot = table.lookup(destination);
    if (slot < 0) {
      if (slot === NO_LEASE) return DropReason.NoLease;
      return slot === OWN_SUBNET ? DropReason.OwnSubnet : DropReason.OutsideNetwork;
    }
    if (!decrementTtlUnlessLast(arena, offset)) return DropReason.TtlExceeded;
    descriptors[at + ADDRESS] = table.slotAddress(slot);
    descriptors[at + PORT] = table.slotPort(slot);
    return FORWARD;
  }

  protected override settleOne(at: number): void {
    const { descriptors, counters } = this;
    const verdict = descriptors[at + VERDICT];
    if (verdict !== FORWARD) {
      this.dropped(at, verdict as DropReason);
      return;
    }
    const sent = descriptors[at + SENT_PACKETS];
    if (sent > 0) counters.forwarded(sent, descriptors[at + SENT_BYTES]);
    if (sent < descriptors[at + SEGMENTS]) this.failed(at, descriptors[at + SEGMENTS] - sent);
  }

  private dropped(at: number, reason: DropReason): void {
    this.countDropped(at, reason, Math.max(1, this.descriptors[at + SEGMENTS]));
    if (reason === DropReason.NoLease || reason === DropReason.TtlExceeded) {
      const quoted = Math.min(this.cut(at / DESCRIPTOR_WORDS, 0, QUOTED_BYTES), QUOTED_BYTES);
      this.handOver(reason, 0, this.cutOffset, quoted);
    }
  }

  private failed(at: number, packets: number): void {
    const { arena, descriptors } = this;
    const tooBig = descriptors[at + TOO_BIG_PACKETS];
    if (packets > tooBig) {
      this.countDropped(at, DropReason.SendFailed, packets - tooBig, descriptors[at + FIRST_FAILED]);
    }
    if (tooBig === 0) return;
    const mayNotBeCut = ipv4DontFragment(arena, descriptors[at + OFFSET]);
    const first = descriptors[at + FIRST_TOO_BIG];
    this.countDropped(at, DropReason.PacketTooBig, tooBig, first);
    // One error is enough for the sender of a super-packet; if it may be fragmented, each packet of it has to be.
    const last = mayNotBeCut ? first : descriptors[at + LAST_TOO_BIG];
    for (let segment = first; segment <= last; segment++) {
      const wanted = mayNotBeCut ? QUOTED_BYTES : MAX_PACKET_BYTES;
      const kept = Math.min(this.cut(at / DESCRIPTOR_WORDS, segment, wanted), wanted);
      // Its fragments come by the overlay device, and through a walk, again.
      incrementTtl(arena, this.cutOffset);
      this.handOver(DropReason.PacketTooBig, descriptors[at + ADDRESS], this.cutOffset, kept);
    }
  }
}
