/**
 * The leases of one subnet that has several keys, which differ in their IPv6 half: the one written last holds it. There may
 * be as many as somebody cares to write, so that each change costs the same however many there are.
 */
import type { Lease } from '../lease.js';

export class CrowdedSubnet {
  /** In the order of their writing, with gaps where keys are gone; never one at the end. */
  #written: (Lease | undefined)[] = [];
  /** Where each is, by its IPv6 half. */
  #places = new Map<string | undefined, number>();

  get size(): number {
    return this.#places.size;
  }

  /** The lease that was written last. */
  get holder(): Lease | undefined {
    return this.#written.at(-1);
  }

  /** Takes in a lease that was written after all others. */
  put(lease: Lease): void {
    this.remove(lease.ipv6Subnet);
    this.#places.set(lease.ipv6Subnet, this.#written.push(lease) - 1);
  }

  /** Forgets what a key held; says whether it held anything. */
  remove(ipv6Subnet: string | undefined): boolean {
    const place = this.#places.get(ipv6Subnet);
    if (place === undefined) return false;
    this.#places.delete(ipv6Subnet);
    this.#written[place] = undefined;
    while (this.#written.length > 0 && this.holder === undefined) this.#written.pop();
    if (this.#written.length > 2 * this.size + 1) this.#closeGaps();
    return true;
  }

  #closeGaps(): void {
    this.#written = this.#written.filter((lease) => lease !== undefined);
    this.#places = new Map(this.#written.map((lease, place) => [lease?.ipv6Subnet, place]));
  }
}
