/**
 * The agent's memory under traffic, and whether packets cause garbage collections: V8 writes a line for each collection
 * (`--trace-gc`), with the thread that had to stop for it.
 */
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CONFINED_MARK } from '../../src/flanneld/confinement.js';
import { FLANNELD } from '../../test/harness/daemon.js';
import { agentContender } from '../contenders/agent.js';
import { runIperf } from '../measures/iperf.js';
import type { Progress } from '../progress.js';
import { startContender, type Path } from '../running-contender.js';
import { buildTraffic, flood, startCounting } from '../traffic.js';
import { withPlace } from './place.js';

export interface MemoryOptions {
  readonly seconds: number;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/** Seconds of each kind of traffic, and between two looks at the memory. */
const STEP_SECONDS = 10;
const MEBIBYTE_KB = 1024;

/** Kinds of traffic, in turn. */
const TRAFFIC: readonly ((path: Path, seconds: number) => Promise<unknown>)[] = [
  (path, seconds) => runIperf(path, { seconds, streams: 1, both: false }),
  (path, seconds) => floodTo(path, { size: 64, flows: 1, seconds }),
  (path, seconds) => runIperf(path, { seconds, streams: 8, both: true }),
  (path, seconds) => floodTo(path, { size: 1400, flows: 64, seconds }),
];

/** @returns lines for people */
export function measureMemory({ seconds, progress, signal }: MemoryOptions): Promise<string[]> {
  return withPlace('memory', async ({ prefix, folder, store, cleanup }) => {
    await buildTraffic();
    const program = join(folder, 'flanneld');
    const log = (pid: number): string => join(folder, `gc-${pid}`);
    // It does not execute itself again, which would begin its threads, and what tells them apart, anew.
    const traced = `${CONFINED_MARK}=$$ exec ${process.execPath} --trace-gc ${FLANNELD} "$@" > ${join(folder, 'gc-')}$$ 2>&1`;
    await writeFile(program, `#!/bin/sh\n${traced}\n`, { mode: 0o755 });
    const agent = agentContender(() => Promise.resolve(store), { name: 'agent', title: 'agent', program, own: true });
    const place = { prefix: `${prefix}-site`, folder: join(folder, 'site') };
    const { site, path, agents } = await startContender(agent, 'pod', place);
    cleanup.push(() => site.dispose());
    const collections = (): Collections =>
      sum(agents.map((pid) => readCollections(readFileSync(log(pid), 'utf8'), pid)));

    progress.show(`nothing for ${STEP_SECONDS} s`);
    const before = collections();
    await sleep(STEP_SECONDS * 1000, undefined, { signal });
    const idle = difference(collections(), before);

    const resident: number[][] = [agents.map(residentKb)];
    const start = collections();
    const steps = Math.max(1, Math.round(seconds / STEP_SECONDS));
    for (let step = 0; step < steps; step++) {
      signal.throwIfAborted();
      progress.show(
        `traffic ${step + 1} of ${steps}: ${resident.map((one) => mebibytes(Math.max(...one))).join(' ')} MiB`,
      );
      await TRAFFIC[step % TRAFFIC.length](path, STEP_SECONDS);
      resident.push(agents.map(residentKb));
    }
    const busy = difference(collections(), start);
    const most = resident.map((one) => Math.max(...one));
    return [
      `resident memory, the larger of both agents, before and every ${STEP_SECONDS} s of traffic: ` +
        `${most.map(mebibytes).join(' ')} MiB`,
      `garbage collections of both agents, idle for ${STEP_SECONDS} s: ${idle.main} in the main thread, ` +
        `${idle.workers} in packet workers`,
      `garbage collections of both agents, ${steps * STEP_SECONDS} s of traffic: ${busy.main} in the main thread, ` +
        `${busy.workers} in packet workers`,
    ];
  });
}

async function floodTo(path: Path, options: { size: number; flows: number; seconds: number }): Promise<void> {
  const port = 5300;
  const stop = await startCounting(path.to, { port, ports: options.flows, flows: options.flows });
  await flood(path.from.namespace, path.to.address, { port, ...options });
  await stop();
}

interface Collections {
  readonly main: number;
  readonly workers: number;
}

/** Lines such as `[1234:0x7f0f9c000ce0]   55 ms: Scavenge …`; the first thread to collect anything is the main one. */
function readCollections(text: string, pid: number): Collections {
  const threads = [...text.matchAll(new RegExp(`^\\[${pid}:(0x[0-9a-f]+)\\] +\\d+ ms: `, 'gm'))].map(
    ([, thread]) => thread,
  );
  const main = threads.filter((thread) => thread === threads[0]).length;
  return { main, workers: threads.length - main };
}

const sum = (all: readonly Collections[]): Collections =>
  all.reduce((total, one) => ({ main: total.main + one.main, workers: total.workers + one.workers }));

const difference = (later: Collections, earlier: Collections): Collections => ({
  main: later.main - earlier.main,
  workers: later.workers - earlier.workers,
});

function residentKb(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

const mebibytes = (kb: number): string => (kb / MEBIBYTE_KB).toFixed(0);
