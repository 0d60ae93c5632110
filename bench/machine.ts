/** Describes the machine a run took place on, for readers who compare runs. */
import { arch, availableParallelism, cpus, release, totalmem } from 'node:os';
import type { Machine } from './results.js';

export function describeMachine(): Machine {
  return {
    kernel: release(),
    architecture: arch(),
    cpu: cpus()[0]?.model.trim() || 'unknown',
    processors: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.versions.node,
  };
}
