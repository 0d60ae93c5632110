/**
 * Writes down what an agent loads and when its packet workers begin to run, a line each, in that order. Loaded before the
 * agent's own code (`NODE_OPTIONS=--import=…`), into its main thread, each worker, and Node's thread for hooks.
 */
import { appendFileSync } from 'node:fs';
import { register, type LoadHook } from 'node:module';
import { isMainThread } from 'node:worker_threads';
import { WorkerControl, WorkerState } from '../../src/dataplane/worker-control.js';

/** The line for a worker that runs; the others are the URLs of modules. */
export const WORKER_RUNS = 'a worker runs';

const path = process.env.LOAD_RECORD;
const HOOKS = '#hooks';

/** The environment of an agent that keeps such a record. */
export function recordingLoads(record: string): Readonly<Record<string, string>> {
  return { LOAD_RECORD: record, NODE_OPTIONS: `--import=${import.meta.url}` };
}

/** A hook of module.register(). */
export const load: LoadHook = (url, context, nextLoad) => {
  write(url);
  return nextLoad(url, context);
};

function write(line: string): void {
  if (path !== undefined) appendFileSync(path, `${line}\n`);
}

if (path !== undefined && !import.meta.url.endsWith(HOOKS)) {
  if (isMainThread) register(`${import.meta.url}${HOOKS}`);
  const enter = Object.getOwnPropertyDescriptor(WorkerControl.prototype, 'enter')?.value as WorkerControl['enter'];
  WorkerControl.prototype.enter = function (state) {
    if (state === WorkerState.Running) write(WORKER_RUNS);
    Reflect.apply(enter, this, [state]);
  };
}
