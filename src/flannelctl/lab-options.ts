import { type Command, InvalidArgumentError } from 'commander';
import { BACKEND_TYPES } from '../backend/backend-types.js';
import { UsageError } from '../errors.js';
import type { LabOptions, LabRuntime } from '../lab/plan.js';
import type { CommandContext } from './context.js';

/** What {@link addLabShapeOptions} fills. */
export interface LabShapeOptions {
  readonly nodes: number;
  readonly pods: number;
  readonly backend: string;
  readonly network: string;
  readonly runtime: LabRuntime;
  /** Absent where the option is not given, so that the help shows no empty list as its default. */
  readonly flanneld?: readonly string[];
}

/** `--name`, for every command about one lab. */
export function addLabNameOption(command: Command, preset: string): Command {
  return command.option('--name <name>', 'which lab: several may live side by side', preset);
}

/** The options that say what a new lab looks like. */
export function addLabShapeOptions(command: Command, nodes = 3): Command {
  return command
    .option('--nodes <count>', 'how many nodes', wholeNumber, nodes)
    .option('--pods <count>', 'how many pods on each node', wholeNumber, 2)
    .option('--backend <type>', 'backend of the overlay network', 'udp')
    .option('--network <cidr>', 'the overlay network', '10.244.0.0/16')
    .option(
      '--runtime <netns|docker>',
      'pods as network namespaces, or containers of a Docker engine a node',
      runtime,
      'netns',
    )
    .option(
      '--flanneld <[node=]path>',
      "another flanneld to run, on one node or on all: a flannel beside this project's (repeatable)",
      (value: string, before: readonly string[] = []) => [...before, value],
    );
}

/** @throws UsageError when the daemon of a node does not know the backend */
export function labOptions(name: string, shape: LabShapeOptions): LabOptions {
  const { nodes, pods: podsPerNode, backend, network } = shape;
  const flanneld = new Map<string, string>();
  for (const text of shape.flanneld ?? []) {
    const [, node, path] = /^(?:([a-z]+[0-9]+)=)?(.+)$/.exec(text) ?? [];
    const targets = node === undefined ? Array.from({ length: nodes }, (_, index) => `node${index + 1}`) : [node];
    // A node named by itself keeps its own, whatever is said for all.
    for (const target of targets) if (node !== undefined || !flanneld.has(target)) flanneld.set(target, path);
  }
  if (flanneld.size < nodes && !BACKEND_TYPES.includes(backend)) {
    throw new UsageError(
      `--backend '${backend}': expected ${BACKEND_TYPES.join(', ')}, or another --flanneld on every node that knows it`,
    );
  }
  return { name, nodes, podsPerNode, backend, network, runtime: shape.runtime, flanneld };
}

/** Writes what was done, with the seconds since the start, where a person can watch it. */
export function progressTo(context: CommandContext): (step: string) => void {
  const start = performance.now();
  return (step) => {
    const seconds = ((performance.now() - start) / 1000).toFixed(1).padStart(5);
    context.stderr.write(`${seconds} s  ${step}\n`);
  };
}

/**
 * Runs `body` with a signal that Ctrl-C, SIGTERM and a reader that went away abort, so that it can clean up; a second Ctrl-C changes nothing,
 * for cleaning up is what it waits for.
 */
export async function interruptible<T>(context: CommandContext, body: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const names: NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  const abort = (): void => controller.abort();
  for (const name of names) process.on(name, abort);
  context.onOutputClosed = abort;
  try {
    return await body(controller.signal);
  } finally {
    for (const name of names) process.off(name, abort);
    context.onOutputClosed = undefined;
  }
}

/** What an interrupted command says at its end, with the exit status of one that SIGINT ended. */
export function reportInterruption(context: CommandContext, lab: string): void {
  context.stderr.write(`flannelctl: interrupted: lab "${lab}" is taken down\n`);
  context.exitCode = 130;
}

function wholeNumber(text: string): number {
  if (!/^[0-9]{1,4}$/.test(text)) throw new InvalidArgumentError('expected a whole number.');
  return Number(text);
}

function runtime(text: string): LabRuntime {
  if (text !== 'netns' && text !== 'docker') throw new InvalidArgumentError('expected netns or docker.');
  return text;
}
