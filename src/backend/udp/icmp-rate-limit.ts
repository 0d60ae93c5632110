/**
 * How many ICMP errors this node sends, by Linux's rules (`net.ipv4.icmp_ratelimit`, `icmp_msgs_per_sec`,
 * `icmp_msgs_burst` in Documentation/networking/ip-sysctl): to one destination one a second after a burst of six, to
 * all together 1000 a second after a burst of 50. As in Linux, path MTU discovery is not held back per destination.
 */
export interface IcmpRateLimits {
  readonly perDestinationIntervalMs: number;
  readonly perDestinationBurst: number;
  readonly globalPerSecond: number;
  readonly globalBurst: number;
  /** Destinations remembered; the one that was quiet longest is forgotten first. */
  readonly maxDestinations: number;
}

export const LINUX_ICMP_RATE_LIMITS: IcmpRateLimits = {
  perDestinationIntervalMs: 1000,
  perDestinationBurst: 6,
  globalPerSecond: 1000,
  globalBurst: 50,
  maxDestinations: 4096,
};

interface Bucket {
  /** Credit in milliseconds: an error costs one interval. */
  creditMs: number;
  updatedAtMs: number;
}

/** Token buckets by {@link IcmpRateLimits}: one for all errors, one for each destination. */
export class IcmpRateLimiter {
  private readonly destinations = new Map<number, Bucket>();
  private globalTokens: number;
  private globalUpdatedAtMs: number | undefined;

  constructor(private readonly limits: IcmpRateLimits = LINUX_ICMP_RATE_LIMITS) {
    this.globalTokens = limits.globalBurst;
  }

  /**
   * Whether an error may be sent to `destination` at `nowMs` (any clock that never goes back), and counts it if so.
   * @param pathMtu the error is fragmentation-needed
   */
  allow(destination: number, nowMs: number, pathMtu = false): boolean {
    this.refillGlobal(nowMs);
    if (this.globalTokens < 1) return false;
    if (!pathMtu && !this.takeFrom(destination, nowMs)) return false;
    this.globalTokens--;
    return true;
  }

  private refillGlobal(nowMs: number): void {
    const elapsedMs = nowMs - (this.globalUpdatedAtMs ?? nowMs);
    this.globalUpdatedAtMs = nowMs;
    const earned = (elapsedMs * this.limits.globalPerSecond) / 1000;
    this.globalTokens = Math.min(this.limits.globalBurst, this.globalTokens + earned);
  }

  private takeFrom(destination: number, nowMs: number): boolean {
    const { perDestinationIntervalMs, perDestinationBurst, maxDestinations } = this.limits;
    const fullMs = perDestinationIntervalMs * perDestinationBurst;
    const known = this.destinations.get(destination);
    const bucket = known ?? { creditMs: fullMs, updatedAtMs: nowMs };
    bucket.creditMs = Math.min(fullMs, bucket.creditMs + nowMs - bucket.updatedAtMs);
    bucket.updatedAtMs = nowMs;
    // Taken out and put in again, the map is in the order of last use.
    if (known !== undefined) this.destinations.delete(destination);
    else if (this.destinations.size >= maxDestinations) {
      for (const oldest of this.destinations.keys()) {
        this.destinations.delete(oldest);
        break;
      }
    }
    this.destinations.set(destination, bucket);
    if (bucket.creditMs < perDestinationIntervalMs) return false;
    bucket.creditMs -= perDestinationIntervalMs;
    return true;
  }
}
