/** The dataplane's features, in the order in which kernels got them, and what is left where a kernel has only some. */
import { runCommand } from '../../src/host/command.js';
import { FLANNELD } from '../../test/harness/daemon.js';
import type { AgentOptions } from './agent.js';

/** Names that `--disable-offload` takes, the youngest feature first, with the kernel that brought it. */
export const OFFLOADS = [
  { name: 'tun-uso', kernel: '6.2' },
  { name: 'udp-gro', kernel: '5.0' },
  { name: 'udp-segment', kernel: '4.18' },
  { name: 'tun-multi-queue', kernel: '3.8' },
  { name: 'sendmmsg', kernel: '3.0' },
  { name: 'recvmmsg', kernel: '2.6.33' },
  { name: 'tun-tso', kernel: '2.6.27' },
  { name: 'tun-vnet', kernel: '2.6.27' },
] as const;

/** Whether an agent lets its offloads be switched off. */
export async function hasOffloadSwitch(program: string = FLANNELD): Promise<boolean> {
  const { stdout } = await runCommand(program, ['--help']);
  return stdout.includes('--disable-offload');
}

/** This project's agent without some of its features. */
export function agentWithout(offloads: readonly string[]): AgentOptions {
  return {
    name: `flannelette-without-${offloads.join('+')}`,
    title: `flannelette without ${offloads.join(', ')}`,
    flags: [`--disable-offload=${offloads.join(',')}`],
  };
}

/** This project's agent as it is on older and older kernels: each rung lacks what the one above has, and more. */
export function ladderRungs(): AgentOptions[] {
  const kernels = [...new Set(OFFLOADS.map(({ kernel }) => kernel))];
  return kernels.map((kernel) => {
    const last = OFFLOADS.findLastIndex((offload) => offload.kernel === kernel);
    const missing = OFFLOADS.slice(0, last + 1).map(({ name }) => name);
    return {
      name: `flannelette-before-${kernel}`,
      title: `flannelette as before Linux ${kernel}`,
      flags: [`--disable-offload=${missing.join(',')}`],
    };
  });
}
