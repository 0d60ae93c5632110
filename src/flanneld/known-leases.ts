import type { RunningBackend } from '../backend/backend.js';
import { prefixKey, type Ipv4Prefix } from '../packet/address.js';
import type { Lease } from '../subnet/lease.js';
import type { LeaseWatcher } from '../subnet/subnet-manager.js';

/**
 * The leases of all nodes as the store last told them. The watch begins before there is a backend, so that no time is
 * lost; the backend, once it runs, gets what is known by then and every change after.
 */
export class KnownLeases implements LeaseWatcher {
  readonly #leases = new Map<number, Lease>();
  #backend: RunningBackend | undefined;
  /** The store has listed them. */
  #complete = false;
  #remembered = false;
  #onChange: () => void = () => undefined;

  /** Calls `listener` after every change that the store tells. */
  observe(listener: () => void): void {
    this.#onChange = listener;
  }

  /** What an earlier run knew: it counts until the store has told anew. */
  remember(leases: readonly Lease[]): void {
    this.clear();
    for (const lease of leases) this.#leases.set(prefixKey(lease.subnet), lease);
    this.#remembered = true;
  }

  /** Passes everything known, and every later change, on to a backend. */
  attach(backend: RunningBackend): void {
    this.#backend = backend;
    // An incomplete table would make the backend forget next hops it may have kept from an earlier run.
    if (this.#complete) backend.setLeases([...this.#leases.values()]);
  }

  snapshot(leases: readonly Lease[]): void {
    this.#leases.clear();
    for (const lease of leases) this.#leases.set(prefixKey(lease.subnet), lease);
    this.#complete = true;
    this.#backend?.setLeases(leases);
    this.#onChange();
  }

  change(changed: readonly Lease[], removed: readonly Ipv4Prefix[]): void {
    for (const lease of changed) this.#leases.set(prefixKey(lease.subnet), lease);
    for (const subnet of removed) this.#leases.delete(prefixKey(subnet));
    this.#backend?.changeLeases(changed, removed);
    this.#onChange();
  }

  /** Forgets everything: another network is watched from now on. */
  clear(): void {
    this.#leases.clear();
    this.#complete = false;
    this.#remembered = false;
  }

  /** Whether these are all leases: those that the store has listed or, until it has, those that an earlier run knew. */
  get whole(): boolean {
    return this.#complete || this.#remembered;
  }

  get size(): number {
    return this.#leases.size;
  }

  values(): Iterable<Lease> {
    return this.#leases.values();
  }
}
