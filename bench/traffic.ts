/** The native program that makes and counts datagrams (bench/native), compiled when it is first needed. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { FlannelError } from '../src/errors.js';
import type { Namespace } from '../src/lab/namespace.js';
import { ROOT } from '../test/harness/daemon.js';
import { compileProgram } from './compile.js';
import type { Endpoint } from './site.js';

const SOURCES = join(ROOT, 'bench/native');
/** How long a command may take beyond the seconds that it was asked for. */
const EXTRA_MS = 30_000;

let program: string | undefined;

/**
 * Compiles the program where it is not there or older than its sources.
 * @returns its path
 * @throws CommandError when it does not compile
 */
export async function buildTraffic(): Promise<string> {
  const sources = readdirSync(SOURCES).map((name) => join(SOURCES, name));
  program = await compileProgram({ name: 'traffic', sources });
  return program;
}

function programPath(): string {
  if (program === undefined) throw new Error('buildTraffic comes first');
  return program;
}

type Words = Readonly<Record<string, string | number>>;

function words(command: string, options: Words): string[] {
  return [command, ...Object.entries(options).map(([name, value]) => `${name}=${value}`)];
}

/** What `flood` says at its end. */
export interface FloodReport {
  readonly sent: number;
  readonly seconds: number;
}

/** What `count` says at its end. */
export interface CountReport {
  readonly received: number;
  /** Datagrams that came after a later one of their flow. */
  readonly reordered: number;
  /** Flows of which anything came. */
  readonly flows: number;
  /** From the first datagram to the last. */
  readonly seconds: number;
}

/** What `ask` says at its end; times in seconds. */
export interface AskReport {
  readonly asked: number;
  readonly answered: number;
  readonly median: number;
  readonly p99: number;
}

export interface FloodOptions {
  readonly port: number;
  /** Bytes of a datagram's payload. */
  readonly size: number;
  readonly flows: number;
  /** Consecutive /24 subnets that the flows go to, the first being the destination's. */
  readonly subnets?: number;
  readonly seconds: number;
}

/** Sends datagrams as fast as they go. */
export function flood(from: Namespace, to: string, { subnets = 1, ...options }: FloodOptions): Promise<FloodReport> {
  return command<FloodReport>(from, 'flood', { to, subnets, ...options }, options.seconds);
}

export interface AskOptions {
  readonly port: number;
  readonly size: number;
  readonly seconds: number;
  /** Microseconds from an answer to the next question. */
  readonly gap: number;
}

/** Asks an {@link startEcho} one question after the other. */
export function ask(from: Namespace, to: string, options: AskOptions): Promise<AskReport> {
  return command<AskReport>(from, 'ask', { to, ...options }, options.seconds);
}

async function command<Report>(from: Namespace, name: string, options: Words, seconds: number): Promise<Report> {
  const { stdout } = await from.exec(programPath(), words(name, options), { timeoutMs: seconds * 1000 + EXTRA_MS });
  return JSON.parse(stdout) as Report;
}

/** Starts a server and waits until it says that it is ready. */
async function startServer(at: Namespace, name: string, options: Words) {
  const child = at.spawn(programPath(), words(name, options), { stdio: ['pipe', 'pipe', 'pipe'] });
  // What it writes at its end of input may find it gone.
  child.stdin?.on('error', () => undefined);
  let complaint = '';
  child.stderr?.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
  if (child.stdout === null) throw new FlannelError('LAB', 'the traffic program cannot be started');
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const next = async <Line>(): Promise<Line> => {
    const { value, done } = (await lines.next()) as IteratorResult<string, undefined>;
    if (done === true) throw new FlannelError('LAB', `traffic ${name} ended: ${complaint.trim() || 'it said nothing'}`);
    return JSON.parse(value) as Line;
  };
  await next<object>();
  return { child, next };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

export interface CountOptions {
  readonly port: number;
  /** Consecutive ports to listen on. */
  readonly ports: number;
  readonly flows: number;
  /** Whether the datagrams are an overlay's own, with the flood's inside. */
  readonly outer?: boolean;
}

/** Counts what a flood sends; the returned function ends the counting. */
export async function startCounting(at: Endpoint, options: CountOptions): Promise<() => Promise<CountReport>> {
  const { outer = false, ...rest } = options;
  const { child, next } = await startServer(at.namespace, 'count', { ...rest, outer: outer ? 1 : 0 });
  return async () => {
    child.stdin?.end();
    const report = await next<CountReport>();
    await ended(child);
    return report;
  };
}

/** Answers questions; the returned function ends that. */
export async function startEcho(at: Endpoint, port: number): Promise<() => Promise<void>> {
  const { child } = await startServer(at.namespace, 'echo', { port });
  return async () => {
    child.kill('SIGTERM');
    await ended(child);
  };
}
