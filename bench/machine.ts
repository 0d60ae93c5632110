/** Describes the machine a run took place on, for readers who compare runs. */
import { arch, availableParallelism, cpus, release, totalmem } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { machineSeconds } from './cpu.js';
import type { Machine } from './results.js';

const LOOK_MS = 1_000;

/** Takes a second, in which nothing of the run must be going on. */
export async function describeMachine(): Promise<Machine> {
  const [busyBefore, start] = [machineSeconds(), performance.now()];
  await sleep(LOOK_MS);
  const seconds = ((performance.now() - start) / 1000) * availableParallelism();
  return {
    kernel: release(),
    architecture: arch(),
    cpu: cpus()[0]?.model.trim() || 'unknown',
    processors: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.versions.node,
    otherLoadPercent: Math.min(100, Math.round(((machineSeconds() - busyBefore) / seconds) * 100)),
  };
}
