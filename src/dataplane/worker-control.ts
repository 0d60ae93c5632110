/**
 * How the main thread steers a worker. A worker sleeps in a system call, where no message reaches it, so orders are a
 * word in shared memory and a signal on the worker's eventfd that ends the sleep. The other way round, a worker says
 * what it does in a second word, and by a message when that changes.
 */

/** What a worker is to do. */
export const Order = { Run: 0, Park: 1, Stop: 2 } as const;
export type Order = (typeof Order)[keyof typeof Order];

/** What it does; `DeviceDeleted`: it has ended, for there will be nothing to carry. */
export const WorkerState = { Starting: 0, Running: 1, Parked: 2, Stopped: 3, DeviceDeleted: 4 } as const;
export type WorkerState = (typeof WorkerState)[keyof typeof WorkerState];

/** Messages from a worker to the main thread; besides these, a `StepDown` as an object. */
export const WorkerMessage = { StateChanged: 0, SlowPath: 1 } as const;
export type WorkerMessage = (typeof WorkerMessage)[keyof typeof WorkerMessage];

const ORDER = 0;
const STATE = 1;
const OFFLOADS = 2;

/** Bytes of shared memory for one worker's control words. */
export const CONTROL_BYTES = 12;

/** Both sides' view of a worker's control words. */
export class WorkerControl {
  private readonly words: Int32Array;

  constructor(shared: SharedArrayBuffer) {
    this.words = new Int32Array(shared, 0, CONTROL_BYTES / 4);
  }

  /** Main thread: the worker's eventfd is to be signalled after this. */
  give(order: Order): void {
    Atomics.store(this.words, ORDER, order);
    Atomics.notify(this.words, ORDER);
  }

  get order(): Order {
    return Atomics.load(this.words, ORDER) as Order;
  }

  get state(): WorkerState {
    return Atomics.load(this.words, STATE) as WorkerState;
  }

  /** Main thread, before the worker begins to carry packets: `OffloadLadder.bits`. */
  standOn(offloads: number): void {
    Atomics.store(this.words, OFFLOADS, offloads);
  }

  /** The rungs that it stands on from its first packet to its end. */
  get offloads(): number {
    return Atomics.load(this.words, OFFLOADS);
  }

  /** Worker (or, for one that has ended, the main thread). */
  enter(state: WorkerState): void {
    Atomics.store(this.words, STATE, state);
  }

  /** Worker: sleeps as long as the order is to park. */
  sleepWhileParked(): void {
    while (this.order === Order.Park) Atomics.wait(this.words, ORDER, Order.Park);
  }
}
