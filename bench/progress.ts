/** Where it is told: a terminal has a width. */
type Output = NodeJS.WritableStream & Partial<Pick<NodeJS.WriteStream, 'isTTY' | 'columns'>>;

/** Tells a waiting person on standard error how far the run is. */
export class Progress {
  readonly #start = performance.now();
  #shown = 0;

  /** @param program - whose notes these are: `bench:compare` */
  constructor(
    private readonly program: string,
    private readonly out: Output = process.stderr,
  ) {}

  get seconds(): number {
    return (performance.now() - this.#start) / 1000;
  }

  /** What is being done: on a terminal one line that is written over and over, elsewhere a line each. */
  show(text: string): void {
    const line = `${clock(this.seconds)}  ${text}`;
    if (!this.out.isTTY) {
      this.out.write(`${line}\n`);
      return;
    }
    const cut = line.slice(0, Math.max(20, (this.out.columns ?? 80) - 1));
    this.out.write(`\r${cut.padEnd(this.#shown)}`);
    this.#shown = cut.length;
  }

  /** Something worth a line of its own, which stays. */
  note(text: string): void {
    this.clear();
    this.out.write(`${this.program}: ${text}\n`);
  }

  /** Wipes the line. */
  clear(): void {
    if (this.#shown > 0) this.out.write(`\r${' '.repeat(this.#shown)}\r`);
    this.#shown = 0;
  }
}

/** Minutes and seconds: `2:05`. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}
