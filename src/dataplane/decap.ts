/**
 * Decapsulation: from the underlay to the pods.
 *
 * Theory of operation. What comes in: a batch of UDP datagrams, each the whole payload of which claims to be one IPv4
 * packet, with a descriptor that says where in the arena it lies, how long it is, and from which underlay address it
 * came. What goes out: those that may be believed, their TTL one lower, written to the overlay device, from where the
 * host routes them to its pods. State: the strangers seen lately, so that each is reported once.
 *
 * Anyone can send a datagram to the tunnel's port, so each packet answers three questions before it is let in (which of
 * them are asked, `--source-check` says):
 * 1. Is the sender one of us: the PublicIP of a lease, or a trusted source? Its port does not matter; NAT may change it.
 * 2. May the sender speak for the inner source? Inside the Network it has to lie in a lease of that very sender; a
 *    trusted source without a lease may speak for any lease but this node's own. From outside the Network come the
 *    sender's own address and clients that it forwards without masquerading, so any address that one host elsewhere can
 *    have is fine: not loopback, multicast, reserved, "this network", link-local, nor one of this host's own.
 * 3. Is the inner destination in this node's subnet? All else would make this node a router for strangers.
 *
 * A packet's trip: a datagram of 84 bytes from 192.168.64.3. That address owns a lease. The packet is IPv4 and all
 * there, from 10.5.34.7: `lookup` answers slot 3, whose address is 192.168.64.3, the sender. It goes to 10.5.1.6, for
 * which `lookup` answers OWN_SUBNET. The TTL goes from 62 to 61, and the packet is written to the device.
 *
 * The steps of a round, and what becomes of options, fragments and padding, are those of `encap.ts`.
 */
import { isLinkLocal, isUnicastHost } from '../packet/ipv4.js';
import { ADDRESS, ERROR, FORWARD, LENGTH, OFFSET, VERDICT } from './descriptors.js';
import { DropReason } from './drop-reasons.js';
import { OUTSIDE, OWN_SUBNET, type ForwardingTableReader } from './forwarding-table-reader.js';
import { decrementTtlUnlessLast, examine } from './inner-packet.js';
import { PacketWalker, type PacketWalkerOptions } from './packet-walker.js';
import { QUOTED_BYTES } from './slow-path.js';

/**
 * How much of an arriving datagram is checked: all three questions, the first and the third, or the third. See
 * `docs/configuration.md`, `--source-check`.
 */
export type SourceCheck = 'strict' | 'outer' | 'off';

/** Strangers remembered; a power of two. A stranger that was forgotten is reported again. */
const REMEMBERED_STRANGERS = 256;

export interface DecapsulatorOptions extends PacketWalkerOptions {
  readonly sourceCheck: SourceCheck;
}

/** The walk over a batch that came from the underlay; a worker has one. */
export class Decapsulator extends PacketWalker {
  private readonly checkSender: boolean;
  private readonly checkInnerSource: boolean;
  /** By a hash of their addresses. */
  private readonly strangers = new Int32Array(REMEMBERED_STRANGERS);

  constructor(options: DecapsulatorOptions) {
    super(options);
    this.checkSender = options.sourceCheck !== 'off';
    this.checkInnerSource = options.sourceCheck === 'strict';
  }

  protected override decide(at: number): number {
    const { arena, descriptors, table } = this;
    const offset = descriptors[at + OFFSET];
    const sender = descriptors[at + ADDRESS];
    if (this.checkSender && !table.isMember(sender)) return DropReason.UnknownSender;
    const fault = examine(arena, descriptors, at);
    if (fault !== FORWARD) return fault;
    if (this.checkInnerSource) {
      const source =
        (arena[offset + 12] << 24) | (arena[offset + 13] << 16) | (arena[offset + 14] << 8) | arena[offset + 15];
      if (!maySpeakFor(table, sender, source)) return DropReason.SpoofedSource;
    }
    const destination =
      (arena[offset + 16] << 24) | (arena[offset + 17] << 16) | (arena[offset + 18] << 8) | arena[offset + 19];
    if (table.lookup(destination) !== OWN_SUBNET) return DropReason.ForeignDestination;
    return decrementTtlUnlessLast(arena, offset) ? FORWARD : DropReason.TtlExceeded;
  }

  protected override settleOne(at: number): void {
    const { descriptors, counters } = this;
    const verdict = descriptors[at + VERDICT];
    if (verdict !== FORWARD) this.drop(at, verdict as DropReason);
    else if (descriptors[at + ERROR] === 0) counters.forwarded(1, descriptors[at + LENGTH]);
    else this.countDropped(at, DropReason.WriteFailed, 1);
  }

  private drop(at: number, reason: DropReason): void {
    const { arena, descriptors } = this;
    const sender = descriptors[at + ADDRESS];
    this.countDropped(at, reason, 1);
    if (reason === DropReason.TtlExceeded) {
      const kept = Math.min(descriptors[at + LENGTH], QUOTED_BYTES);
      this.handOver(reason, sender, descriptors[at + OFFSET], kept);
    } else if (reason === DropReason.UnknownSender) {
      const place = (Math.imul(sender, 0x9e3779b1) >>> 16) & (REMEMBERED_STRANGERS - 1);
      if (this.strangers[place] === sender) return;
      if (this.slowPath.push(reason, sender, arena, 0, 0)) this.strangers[place] = sender;
    }
  }
}

/** The second question; both addresses are signed. */
function maySpeakFor(table: ForwardingTableReader, sender: number, source: number): boolean {
  const slot = table.lookup(source);
  if (slot >= 0) return (table.slotAddress(slot) | 0) === sender || table.isTrustedWithoutLease(sender);
  if (slot !== OUTSIDE) return false;
  return isUnicastHost(source) && !isLinkLocal(source) && !table.isOwnAddress(source);
}
