import type { Readable } from 'node:stream';

/** Where a command writes; `process.stdout` and `process.stderr` fit. */
export interface TextSink {
  write(text: string | Uint8Array): unknown;
  readonly isTTY?: boolean;
  /** Of a terminal: its size in characters. */
  readonly rows?: number;
  readonly columns?: number;
}

/**
 * All that a command may touch of the process it runs in, so that a test can run the whole program in its own process.
 * Commands write their result to `stdout` and everything about how they got there to `stderr`.
 */
export interface CommandContext {
  readonly stdout: TextSink;
  readonly stderr: TextSink;
  readonly stdin: Readable;
  readonly env: Readonly<Record<string, string | undefined>>;
  /**
   * The exit status when the command ends without throwing: 0 unless a command sets it (`lab exec` passes on the status
   * of what it ran). What is thrown decides by itself: 2 for a `UsageError`, 1 for the rest.
   */
  exitCode: number;
  /** Called when nobody reads the output any more; unset, that ends the process at once. */
  onOutputClosed?: () => void;
}

/** The context of the running process. */
export function processContext(): CommandContext {
  return { stdout: process.stdout, stderr: process.stderr, stdin: process.stdin, env: process.env, exitCode: 0 };
}

/** Writes lines to a sink, each ended by a newline. */
export function printLines(sink: TextSink, lines: readonly string[]): void {
  sink.write(lines.map((line) => `${line}\n`).join(''));
}

/** Writes a value for a machine: indented JSON and a newline. */
export function printJson(context: CommandContext, value: unknown): void {
  context.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}
