/**
 * When may the writer use a piece of the table again that readers might still be looking at? After every worker has
 * said once that it holds nothing from before (quiescent-state-based reclamation, as in userspace RCU).
 *
 * The writer keeps a counter, the epoch, and raises it each time it has taken something out of the readers' sight. A
 * worker copies the epoch into a word of its own before the lookups of a batch, and writes 0 after them, when it holds
 * no result of any. What was taken out at epoch E is free once every word is 0 or at least E.
 */
const OFFLINE = 0;

/** The epoch and a word of 32 bits for each worker, which is known by its index. */
export class WorkerEpochs {
  private readonly words: Int32Array;

  static byteLength(workers: number): number {
    return 4 * (1 + workers);
  }

  /** A view of `1 + workers` words at `byteOffset`: the epoch, then one word a worker. */
  constructor(buffer: SharedArrayBuffer, byteOffset: number, workers: number) {
    this.words = new Int32Array(buffer, byteOffset, 1 + workers);
  }

  /** Writer, once: readers must not find an epoch that means "offline". */
  initialize(): void {
    Atomics.store(this.words, 0, 1);
  }

  /** Worker: I hold nothing and look nothing up until I am online again. */
  offline(worker: number): void {
    Atomics.store(this.words, 1 + worker, OFFLINE);
  }

  /** Worker: lookups begin. */
  online(worker: number): void {
    // The second load is what keeps the lookups that follow behind the store on a weakly ordered machine: a store and
    // a later load that are both sequentially consistent are never swapped, and nothing moves up before such a load.
    let epoch: number;
    do {
      epoch = Atomics.load(this.words, 0);
      Atomics.store(this.words, 1 + worker, epoch);
    } while (Atomics.load(this.words, 0) !== epoch);
  }

  /** Writer: opens a new epoch, after something was taken out of sight, and returns it. */
  advance(): number {
    let epoch = Atomics.add(this.words, 0, 1) + 1;
    if ((epoch | 0) === OFFLINE) epoch = Atomics.add(this.words, 0, 1) + 1;
    return epoch | 0;
  }

  /** Writer: whether every worker has passed on since `epoch` was opened. */
  allPassed(epoch: number): boolean {
    for (let index = 1; index < this.words.length; index++) {
      const word = Atomics.load(this.words, index);
      if (word !== OFFLINE && ((word - epoch) | 0) < 0) return false;
    }
    return true;
  }
}

/** Hands out the indices `0 … size-1`, and hands a released one out again only when no reader can still hold it. */
export class IndexPool {
  private readonly free: number[] = [];
  private readonly retired: { readonly index: number; readonly epoch: number }[] = [];
  private oldestRetired = 0;
  private next = 0;

  constructor(
    readonly size: number,
    private readonly epochs: WorkerEpochs,
  ) {}

  /** Indices that were ever handed out. */
  get touched(): number {
    return this.next;
  }

  /** An index of the caller's own, or -1 when there is none. */
  take(): number {
    this.reclaim();
    const index = this.free.pop();
    if (index !== undefined) return index;
    return this.next < this.size ? this.next++ : -1;
  }

  /** Gives back an index that no lookup begun from now on can find. */
  release(index: number): void {
    this.retired.push({ index, epoch: this.epochs.advance() });
  }

  private reclaim(): void {
    while (this.oldestRetired < this.retired.length) {
      const { index, epoch } = this.retired[this.oldestRetired];
      if (!this.epochs.allPassed(epoch)) break;
      this.free.push(index);
      this.oldestRetired++;
    }
    if (this.oldestRetired > 1024 || (this.oldestRetired > 0 && this.oldestRetired === this.retired.length)) {
      this.retired.splice(0, this.oldestRetired);
      this.oldestRetired = 0;
    }
  }
}
