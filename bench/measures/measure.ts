import type { Figure, MeasureDescription } from '../results.js';
import type { RunningContender } from '../running-contender.js';

/** How long and how much. */
export interface MeasureOptions {
  readonly seconds: number;
  /** Of the measures with several TCP streams. */
  readonly streams: number;
}

/** Something that is measured of every contender. */
export interface Measure extends MeasureDescription {
  /** Whether it can be measured of a contender; absent: of all. */
  readonly appliesTo?: (contender: RunningContender) => boolean;
  /** Figures by the names in `figures`. @throws FlannelError when the contender did not carry the traffic */
  run(contender: RunningContender, options: MeasureOptions): Promise<Record<string, number>>;
}

const GIGABYTE = 1e9;

export const TCP_COST_FIGURES: readonly Figure[] = [
  {
    name: 'machineSecondsPerGB',
    title: 'CPU of the whole machine',
    unit: 'CPU-s/GB',
    heading: 'CPU-s/GB',
    better: 'lower',
    compared: true,
  },
  {
    name: 'agentSecondsPerGB',
    title: 'CPU of the agents',
    unit: 'CPU-s/GB',
    heading: "agents' CPU-s/GB",
    better: 'lower',
    compared: false,
  },
];

/** What a gigabyte cost, as {@link TCP_COST_FIGURES}. */
export function costPerGigabyte(cost: { machineSeconds: number; agentSeconds: number }, bytes: number) {
  return {
    machineSecondsPerGB: (cost.machineSeconds / bytes) * GIGABYTE,
    agentSecondsPerGB: (cost.agentSeconds / bytes) * GIGABYTE,
  };
}
