/**
 * The ways in which an agent ends and another goes on, each in the midst of traffic between a pod of its node and one of
 * another: 1,000 datagrams a second each way and a TCP stream.
 */
import { Cluster } from '../harness/cluster.js';
import type { TrafficAccount } from '../harness/paced-traffic.js';
import {
  compileRestartPrograms,
  failToTakeOver,
  failWorkers,
  HANDFUL,
  HANDOVER_STEPS,
  takeOver,
  underServiceManager,
  underTraffic,
  withWorkerFaults,
  type RestartPrograms,
} from '../harness/restarts.js';

/** What a scene has to come out with, besides a TCP stream that arrives as it was sent. */
export interface Goal {
  /** Datagrams, each way. */
  readonly lost: number;
  readonly outOfOrder: number;
  readonly gapMs: number;
}

export interface Scene {
  readonly name: string;
  /** `undefined`: there to compare with. */
  readonly goal?: Goal;
  /** On two nodes with pods, the first of which may have a daemon from the scene before, or none. */
  play(cluster: Cluster, programs: RestartPrograms): Promise<TrafficAccount>;
}

const LONGEST_GAP_MS = 700;
const NOTHING_LOST: Goal = { lost: 0, outOfOrder: 0, gapMs: LONGEST_GAP_MS };
const HANDFUL_LOST: Goal = { lost: HANDFUL, outOfOrder: 0, gapMs: LONGEST_GAP_MS };
const KEEPS_NOTHING = { storeMax: 0 };

/** Of our agent. */
export const SCENES: readonly Scene[] = [
  { name: 'restart, descriptor store', goal: NOTHING_LOST, play: (...stage) => byManager(stage, 'restart') },
  { name: 'takeover', goal: NOTHING_LOST, play: (...stage) => byItself(stage, ([node]) => takeOver(node)) },
  {
    name: 'takeover, the next one killed at three steps',
    goal: NOTHING_LOST,
    play: (...stage) =>
      byItself(stage, async ([node]) => {
        for (const step of HANDOVER_STEPS) await failToTakeOver(node, step);
      }),
  },
  { name: 'kill -9, descriptor store', goal: HANDFUL_LOST, play: (...stage) => byManager(stage, 'kill') },
  {
    name: 'workers fail',
    goal: HANDFUL_LOST,
    play: (...stage) => byItself(stage, ([node]) => failWorkers(node.running)),
  },
  { name: 'restart, no store', play: (...stage) => byManager(stage, 'restart', KEEPS_NOTHING) },
  { name: 'kill -9, no store', play: (...stage) => byManager(stage, 'kill', KEEPS_NOTHING) },
];

/** The same of another flanneld, which keeps nothing. */
export function scenesOfPeer(program: string): readonly Scene[] {
  return (['stop', 'kill'] as const).map((how) => ({
    name: how === 'stop' ? 'restart' : 'kill -9',
    play: (cluster, programs) =>
      underTraffic(cluster, programs, async () => {
        const [node] = cluster.nodes;
        await node.running[how]();
        await node.start([], { program });
      }),
  }));
}

type Stage = Parameters<Scene['play']>;

async function byManager(
  [cluster, programs]: Stage,
  command: 'restart' | 'kill',
  options?: typeof KEEPS_NOTHING,
): Promise<TrafficAccount> {
  let account: TrafficAccount | undefined;
  await underServiceManager(
    cluster,
    programs,
    async (manager) => {
      account = await underTraffic(cluster, programs, () => manager.untilReady(command));
    },
    options,
  );
  return account as TrafficAccount;
}

async function byItself(
  [cluster, programs]: Stage,
  restart: (nodes: Cluster['nodes']) => Promise<void>,
): Promise<TrafficAccount> {
  const [node] = cluster.nodes;
  if (node.daemon?.running === true) await node.daemon.stop();
  await node.start([], { environment: withWorkerFaults() });
  return underTraffic(cluster, programs, () => restart(cluster.nodes));
}

export interface PlayOptions {
  readonly scenes: readonly Scene[];
  readonly rounds: number;
  /** The agent of both nodes, if it is not ours. */
  readonly program?: string;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

/** A scene and what each round of it came out with. */
export interface Outcome {
  readonly scene: Scene;
  readonly accounts: readonly TrafficAccount[];
}

/** Plays scenes on two nodes of their own, all of them once a round. */
export async function playScenes({ scenes, rounds, program, say, signal }: PlayOptions): Promise<readonly Outcome[]> {
  const outcomes = scenes.map((scene) => ({ scene, accounts: [] as TrafficAccount[] }));
  const cluster = await Cluster.create('restarts', { nodes: 2 });
  try {
    const programs = await compileRestartPrograms(cluster.folder);
    for (const node of cluster.nodes) {
      await node.start([], { program });
      await node.addPod();
    }
    for (let round = 1; round <= rounds; round++) {
      for (const { scene, accounts } of outcomes) {
        signal.throwIfAborted();
        say(`round ${round} of ${rounds}: ${scene.name}`);
        accounts.push(await scene.play(cluster, programs));
      }
    }
    return outcomes;
  } finally {
    await cluster.dispose();
  }
}
