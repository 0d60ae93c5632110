/** Time of a simulation: events in the order of their moments, one a step, and nothing in between. */

interface TimedEvent {
  readonly at: number;
  /** Events of one moment happen in the order in which they were planned. */
  readonly sequence: number;
  run: (() => void) | undefined;
}

export class Timeline {
  /** Milliseconds since the beginning. */
  now = 0;
  private readonly heap: TimedEvent[] = [];
  private planned = 0;

  /** Plans an event, a whole number of milliseconds and at least one from now; what is answered takes it back. */
  after(delayMs: number, run: () => void): () => void {
    const event: TimedEvent = { at: this.now + Math.max(1, Math.ceil(delayMs)), sequence: this.planned++, run };
    if (event.at < Infinity) this.push(event);
    return () => (event.run = undefined);
  }

  /** Lets the next event happen, and all that follows from it at once. */
  async step(): Promise<void> {
    for (;;) {
      const event = this.pop();
      if (event === undefined) throw new Error('nothing is planned any more');
      if (event.run === undefined) continue;
      this.now = event.at;
      event.run();
      // Every promise that could settle has settled when this comes.
      await new Promise((resolve) => setImmediate(resolve));
      return;
    }
  }

  private push(event: TimedEvent): void {
    const { heap } = this;
    let index = heap.push(event) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!isEarlier(event, heap[parent])) break;
      heap[index] = heap[parent];
      index = parent;
    }
    heap[index] = event;
  }

  private pop(): TimedEvent | undefined {
    const { heap } = this;
    const first = heap.at(0);
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isEarlier(heap[child + 1], heap[child])) child++;
      if (!isEarlier(heap[child], last)) break;
      heap[index] = heap[child];
      index = child;
    }
    heap[index] = last;
    return first;
  }
}

function isEarlier(one: TimedEvent, other: TimedEvent): boolean {
  return one.at < other.at || (one.at === other.at && one.sequence < other.sequence);
}
