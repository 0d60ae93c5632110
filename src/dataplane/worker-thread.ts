/**
 * The threads that packet workers run in. To start one takes about as long as to find out what it is to do, so that an
 * agent starts its first ones ahead: they load what they need meanwhile, and wait for their task.
 */
import { Worker } from 'node:worker_threads';
import type { WorkerData } from './worker.js';

/**
 * Workers each way, on any number of processors: a flow stays with one worker, and all that one node sends to another
 * arrives at one socket. docs/performance.md has what two of them gave; the operator may ask for more (`--workers`).
 */
export const DEFAULT_WORKERS = 1;

type Direction = WorkerData['direction'];

/** Started, and without a task. */
const waiting: Record<Direction, Set<Worker>> = { encap: new Set(), decap: new Set() };

/** Starts the threads for so many workers each way. They do not keep the process from ending. */
export function startThreadsAhead(workers = DEFAULT_WORKERS): void {
  for (let index = 0; index < workers; index++) {
    for (const direction of ['encap', 'decap'] as const) {
      const thread = startThread(direction, `${direction}-${index}`);
      const forget = (): void => void waiting[direction].delete(thread);
      // One that cannot even wait is none: the next is started when it is needed, and says why that cannot be.
      thread.on('error', forget).on('exit', forget).unref();
      waiting[direction].add(thread);
    }
  }
}

/** Gives a thread its task: one that waits for it, or else a new one of that name. */
export function runInThread(name: string, data: WorkerData): Worker {
  const { direction } = data;
  const [ahead] = waiting[direction];
  if (ahead !== undefined) waiting[direction].delete(ahead);
  const thread = ahead ?? startThread(direction, name);
  thread.ref();
  thread.postMessage(data);
  return thread;
}

/** Ends the threads that wait: nobody will need them. */
export function endWaitingThreads(): void {
  for (const threads of Object.values(waiting)) {
    for (const thread of threads) void thread.terminate();
    threads.clear();
  }
}

function startThread(direction: Direction, name: string): Worker {
  return new Worker(new URL('./worker.js', import.meta.url), { workerData: { direction }, name, execArgv: [] });
}
