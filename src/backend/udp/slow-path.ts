/**
 * What happens to a packet that a worker would not forward: its sender is told with an ICMP error where the rules allow
 * that, a packet too large for the path is cut where its sender allows that, and a stranger is named in the log. Runs on
 * the main thread; workers have counted the packet and gone on before.
 */
import { DropReason } from '../../dataplane/drop-reasons.js';
import type { SlowPathPacket } from '../../dataplane/slow-path.js';
import { fragmentIpv4 } from '../../packet/fragment.js';
import { buildIcmpError, mayAnswerWithError, type IcmpError } from '../../packet/icmp.js';
import {
  IPV4_HEADER_BYTES,
  IPV4_MIN_MTU_BYTES,
  ipv4DontFragment,
  ipv4HeaderBytes,
  ipv4Shape,
  ipv4Source,
  ipv4TotalBytes,
} from '../../packet/ipv4.js';
import type { IcmpRateLimiter } from './icmp-rate-limit.js';
import type { StrangerLog } from './stranger-log.js';

export interface SlowPathOptions {
  /** Where errors come from: the overlay device's own address. */
  readonly sourceAddress: number;
  /** Sends a packet that brings its own header. */
  readonly send: (packet: Buffer, done: (sent: boolean) => void) => void;
  readonly rateLimiter: IcmpRateLimiter;
  readonly strangers: StrangerLog;
  /** A clock that never goes back, in milliseconds. */
  readonly nowMs: () => number;
}

/** Handles packets one by one, and counts the ICMP errors that it sends or holds back. */
export class SlowPath {
  private sent = 0;
  private rateLimited = 0;

  constructor(private readonly options: SlowPathOptions) {}

  get icmpErrorsSent(): number {
    return this.sent;
  }

  get icmpErrorsRateLimited(): number {
    return this.rateLimited;
  }

  handle(dropped: SlowPathPacket): void {
    switch (dropped.reason) {
      case DropReason.NoLease:
        this.answer(dropped.packet, { kind: 'net-unreachable' });
        break;
      case DropReason.TtlExceeded:
        this.answer(dropped.packet, { kind: 'time-exceeded' });
        break;
      case DropReason.PacketTooBig:
        this.tooBig(dropped.packet, dropped.innerMtuBytes);
        break;
      case DropReason.UnknownSender:
        this.options.strangers.dropped(dropped.senderAddress, this.options.nowMs());
        break;
      case DropReason.NotIpv4:
      case DropReason.Truncated:
      case DropReason.OwnSubnet:
      case DropReason.OutsideNetwork:
      case DropReason.SendFailed:
      case DropReason.SpoofedSource:
      case DropReason.ForeignDestination:
      case DropReason.WriteFailed:
        break; // counted, and nobody to tell
    }
  }

  private tooBig(packet: Buffer, mtuBytes: number): void {
    if (!hasHeader(packet) || mtuBytes < IPV4_MIN_MTU_BYTES) return;
    // A path that carries the packet after all: sending it again could go round for ever.
    if (ipv4TotalBytes(packet, 0) <= mtuBytes) return;
    if (ipv4DontFragment(packet, 0)) {
      this.answer(packet, { kind: 'fragmentation-needed', nextHopMtuBytes: mtuBytes });
      return;
    }
    if (ipv4Shape(packet, 0, packet.length) !== 'ok') return;
    // The fragments are routed by the host as the packet was, into the overlay device and through a worker once more.
    for (const fragment of fragmentIpv4(packet, 0, mtuBytes) ?? []) this.options.send(fragment, () => undefined);
  }

  private answer(packet: Buffer, error: IcmpError): void {
    const { sourceAddress, rateLimiter, nowMs, send } = this.options;
    if (!hasHeader(packet) || !mayAnswerWithError(packet, 0)) return;
    if (!rateLimiter.allow(ipv4Source(packet, 0), nowMs(), error.kind === 'fragmentation-needed')) {
      this.rateLimited++;
      return;
    }
    send(buildIcmpError(packet, 0, error, sourceAddress), (sent) => {
      if (sent) this.sent++;
    });
  }
}

/** Whether a packet, perhaps cut short, can be spoken of at all. */
function hasHeader(packet: Buffer): boolean {
  return packet.length >= IPV4_HEADER_BYTES && packet[0] >>> 4 === 4 && packet.length >= ipv4HeaderBytes(packet, 0);
}
