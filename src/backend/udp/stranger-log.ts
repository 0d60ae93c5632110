/**
 * Says once for each unknown sender that its datagrams are dropped, and what would admit it. A flood with forged
 * addresses must fill neither the log nor memory.
 */
import type { Logger } from '../../log.js';
import { formatIpv4 } from '../../packet/address.js';

export interface StrangerLogLimits {
  /** An address is named again when this long has passed since it was named last. */
  readonly repeatAfterMs: number;
  /** Addresses remembered; while that many were named within `repeatAfterMs`, no further one is. */
  readonly maxAddresses: number;
}

const DEFAULT_LIMITS: StrangerLogLimits = { repeatAfterMs: 10 * 60_000, maxAddresses: 128 };

/** Names unknown senders in the log, each once in a while, within {@link StrangerLogLimits}. */
export class StrangerLog {
  /** In the order in which they were named. */
  private readonly namedAtMs = new Map<number, number>();
  private saidFull = false;

  constructor(
    private readonly logger: Logger,
    private readonly limits: StrangerLogLimits = DEFAULT_LIMITS,
  ) {}

  /** A datagram from `sender` was dropped at `nowMs`. */
  dropped(sender: number, nowMs: number): void {
    for (const [address, atMs] of this.namedAtMs) {
      if (nowMs - atMs < this.limits.repeatAfterMs) break;
      this.namedAtMs.delete(address);
      this.saidFull = false;
    }
    if (this.namedAtMs.has(sender)) return;
    if (this.namedAtMs.size >= this.limits.maxAddresses) {
      if (!this.saidFull) this.logger.warn('datagrams of many more unknown senders are dropped; no more are named');
      this.saidFull = true;
      return;
    }
    this.namedAtMs.set(sender, nowMs);
    const address = formatIpv4(sender);
    this.logger.warn(
      `datagrams from ${address} are dropped: it holds no lease; if it is a node that sends from another address than ` +
        `its public one, start flanneld with --trusted-source ${address}/32`,
      { sender: address },
    );
  }
}
