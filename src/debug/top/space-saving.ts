/**
 * The heaviest of many things, in bounded memory: the Space-Saving sketch (Metwally, Agrawal, El Abbadi, "Efficient
 * computation of frequent and top-k elements in data streams", ICDT 2005), with weights.
 *
 * It has `capacity` places. What comes and has none takes that of the lightest, and with it the lightest's weight as what
 * it may have had before, which nobody counted. Hence, of a total weight W:
 * - `counted` ≤ true weight ≤ `counted` + `missedAtMost`, and `missedAtMost` ≤ W / capacity;
 * - whatever weighs more than W / capacity has a place;
 * - of two things whose weights differ by more than W / capacity, the heavier has the larger `counted`.
 */

export interface SketchEntry<Item> {
  readonly key: string;
  readonly item: Item;
  /** Weight since it has its place: no more than the true one. */
  readonly counted: number;
  /** The true weight is no more than this above {@link counted}. */
  readonly missedAtMost: number;
}

interface Place<Item> extends SketchEntry<Item> {
  counted: number;
  /** Index in the heap. */
  index: number;
}

/** The sketch. @throws RangeError for a capacity that is no whole number of at least 1 */
export class SpaceSaving<Item> {
  private readonly places = new Map<string, Place<Item>>();
  /** A binary heap, the lightest (`counted` + `missedAtMost`) first. */
  private readonly heap: Place<Item>[] = [];
  private sum = 0;

  constructor(readonly capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1) throw new RangeError('Expected a "capacity" of at least 1');
  }

  /** All weight that was added. */
  get total(): number {
    return this.sum;
  }

  get size(): number {
    return this.heap.length;
  }

  /**
   * Adds a weight of 0 or more to a key.
   * @param make - the item of a key that has no place yet
   * @returns the item of the key
   */
  add(key: string, weight: number, make: () => Item): Item {
    this.sum += weight;
    const known = this.places.get(key);
    if (known !== undefined) {
      known.counted += weight;
      this.sink(known);
      return known.item;
    }
    const place: Place<Item> = { key, item: make(), counted: weight, missedAtMost: 0, index: this.heap.length };
    if (this.heap.length < this.capacity) {
      this.places.set(key, place);
      this.heap.push(place);
      this.rise(place);
      return place.item;
    }
    const lightest = this.heap[0];
    const heir: Place<Item> = { ...place, missedAtMost: weightOf(lightest), index: 0 };
    this.places.delete(lightest.key);
    this.places.set(key, heir);
    this.heap[0] = heir;
    this.sink(heir);
    return heir.item;
  }

  /** The heaviest first, by what was counted of them. */
  heaviest(limit = Infinity): SketchEntry<Item>[] {
    return [...this.heap].sort((a, b) => b.counted - a.counted).slice(0, limit);
  }

  private rise(place: Place<Item>): void {
    while (place.index > 0) {
      const parent = this.heap[(place.index - 1) >> 1];
      if (weightOf(parent) <= weightOf(place)) return;
      this.swap(parent, place);
    }
  }

  private sink(place: Place<Item>): void {
    for (;;) {
      const left = 2 * place.index + 1;
      if (left >= this.heap.length) return;
      const children = this.heap.slice(left, left + 2);
      const lighter = children.reduce((least, child) => (weightOf(child) < weightOf(least) ? child : least));
      if (weightOf(place) <= weightOf(lighter)) return;
      this.swap(place, lighter);
    }
  }

  private swap(a: Place<Item>, b: Place<Item>): void {
    [a.index, b.index] = [b.index, a.index];
    this.heap[a.index] = a;
    this.heap[b.index] = b;
  }
}

function weightOf({ counted, missedAtMost }: SketchEntry<unknown>): number {
  return counted + missedAtMost;
}
