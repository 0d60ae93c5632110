/** This project's agent as it is where the kernel offers less. */
import { OFFLOADS } from '../../src/dataplane/offloads.js';
import type { AgentOptions } from './agent.js';

/** Without some of its offloads. */
export function agentWithout(offloads: readonly string[]): AgentOptions {
  return {
    name: `flannelette-without-${offloads.join('+')}`,
    title: `flannelette without ${offloads.join(', ')}`,
    flags: [`--disable-offload=${offloads.join(',')}`],
  };
}

/** As it is on older and older kernels: each rung lacks what the one before lacks, and more. */
export function ladderRungs(): AgentOptions[] {
  const kernels = [...new Set(OFFLOADS.map(({ kernel }) => kernel))].sort((a, b) => compareReleases(b, a));
  return kernels.map((before) => {
    const missing = OFFLOADS.filter(({ kernel }) => compareReleases(kernel, before) >= 0);
    return {
      name: `flannelette-before-${before}`,
      title: `flannelette as before Linux ${before}`,
      flags: [`--disable-offload=${missing.map(({ name }) => name).join(',')}`],
    };
  });
}

/** Below zero where the first release is the older one. */
function compareReleases(first: string, second: string): number {
  const [a, b] = [first, second].map((release) => release.split('.').map(Number));
  const differing = a.findIndex((number, index) => number !== b[index]);
  if (differing < 0) return a.length - b.length;
  return a[differing] - (b[differing] ?? 0);
}
