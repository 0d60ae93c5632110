/**
 * A set of IPv4 addresses in shared memory: one writer (the control plane), any number of readers that never lock.
 *
 * Open addressing with linear probing. What is removed leaves no trace, however often members come and go: those behind
 * it move up, so that a probe (which a stranger's every datagram costs) never gets longer than the members make it. A
 * move is a copy first and then a deletion, so at every moment each member can be found; but a reader may have passed the
 * new place before the copy and reach the old one after the deletion. So the writer counts moves between the two, and a
 * reader that found nothing while the count changed looks again. The writer may be held up anywhere: that holds no
 * reader up.
 */
const EMPTY = 0; // 0.0.0.0 is nobody's address

/** Members are 32-bit integers, signed or unsigned; 0.0.0.0 is never one. */
export class SharedAddressSet {
  private readonly cells: Int32Array;
  /** One word: how often a member was moved, modulo 2^32. */
  private readonly moves: Int32Array;
  private readonly mask: number;
  private members = 0;

  /** Bytes of shared memory for up to `capacity` members: twice as many cells, rounded up to a power of two. */
  static byteLength(capacity: number): number {
    return 4 * (cellCount(capacity) + 1);
  }

  /** A view of the set that lies at `byteOffset` of `buffer`; zeroed memory is the empty set. */
  constructor(
    buffer: SharedArrayBuffer,
    byteOffset: number,
    readonly capacity: number,
  ) {
    const count = cellCount(capacity);
    this.cells = new Int32Array(buffer, byteOffset, count);
    this.moves = new Int32Array(buffer, byteOffset + 4 * count, 1);
    this.mask = count - 1;
  }

  /** Any thread: whether `address` (signed or unsigned) is a member. */
  has(address: number): boolean {
    const wanted = address | 0;
    if (wanted === EMPTY) return false;
    const { cells, mask } = this;
    for (let index = home(wanted) & mask; ; index = (index + 1) & mask) {
      const cell = cells[index];
      if (cell === wanted) return true;
      if (cell === EMPTY) return this.hasForSure(wanted);
    }
  }

  /** As {@link has}, with reads that no processor reorders. */
  private hasForSure(wanted: number): boolean {
    const { cells, moves, mask } = this;
    for (;;) {
      const movesBefore = Atomics.load(moves, 0);
      let index = home(wanted) & mask;
      let cell = Atomics.load(cells, index);
      while (cell !== wanted && cell !== EMPTY) {
        index = (index + 1) & mask;
        cell = Atomics.load(cells, index);
      }
      if (cell === wanted) return true;
      if (Atomics.load(moves, 0) === movesBefore) return false;
    }
  }

  /** Writer only: adds a member. `false` when the set is full or the address can be nobody's. */
  add(address: number): boolean {
    const wanted = address | 0;
    if (wanted === EMPTY) return false;
    if (this.has(wanted)) return true;
    if (this.members >= this.capacity) return false;
    let index = home(wanted) & this.mask;
    while (this.cells[index] !== EMPTY) index = (index + 1) & this.mask;
    Atomics.store(this.cells, index, wanted);
    this.members++;
    return true;
  }

  /** Writer only: removes a member, if it is one. */
  delete(address: number): void {
    const wanted = address | 0;
    if (!this.has(wanted)) return;
    const { cells, moves, mask } = this;
    let hole = home(wanted) & mask;
    while (cells[hole] !== wanted) hole = (hole + 1) & mask;
    for (let index = (hole + 1) & mask; cells[index] !== EMPTY; index = (index + 1) & mask) {
      // A member whose probe begins behind the hole would not be found in it.
      const cellsFromHome = (index - home(cells[index])) & mask;
      const cellsFromHole = (index - hole) & mask;
      if (cellsFromHome < cellsFromHole) continue;
      Atomics.store(cells, hole, cells[index]);
      Atomics.add(moves, 0, 1);
      hole = index;
    }
    Atomics.store(cells, hole, EMPTY);
    this.members--;
  }
}

function cellCount(capacity: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(8, capacity * 2)));
}

/** Neighbouring addresses (a rack of nodes) spread over the table: Knuth's multiplicative hash. */
function home(address: number): number {
  const product = Math.imul(address, 0x9e3779b1);
  return product ^ (product >>> 15);
}
