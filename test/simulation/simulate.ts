/** Runs one world after the other, each with a seed of its own. */
import { World } from './world.js';

/** A world lives for so many steps: long enough for leases to expire many times over. */
const STEPS_A_WORLD = 5_000;

export interface SimulationResult {
  readonly steps: number;
  readonly worlds: number;
  /** Of the worlds' own time. */
  readonly hours: number;
  /** What went wrong, by kind. */
  readonly happened: ReadonlyMap<string, number>;
}

/**
 * Simulates at least so many steps.
 * @throws Violation naming the world's seed, with which `simulate` fails in the same way again
 */
export async function simulate(
  steps: number,
  seed: number,
  progress: (steps: number) => void = () => undefined,
): Promise<SimulationResult> {
  const happened = new Map<string, number>();
  let done = 0;
  let worlds = 0;
  let hours = 0;
  while (done < steps) {
    const world = new World({ seed: seed + worlds, happened });
    await world.run(STEPS_A_WORLD);
    worlds++;
    done += world.steps;
    hours += world.timeline.now / 3_600_000;
    progress(done);
  }
  return { steps: done, worlds, hours, happened };
}
