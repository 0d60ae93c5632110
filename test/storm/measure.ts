/** An agent's start with many leases in etcd, its answers about them, and a storm over it, as lines for people. */
import { statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster, PREFIX, type ClusterNode } from '../harness/cluster.js';
import { compileHarness } from '../harness/compile.js';
import { putFarLeases } from '../harness/many-leases.js';
import { untilReached } from '../harness/pod-traffic.js';
import { until } from '../harness/until.js';
import { processSeconds } from '../../bench/cpu.js';
import { runCommand } from '../../src/host/command.js';
import { residentKib } from '../hostile/counters.js';
import { Chance } from '../simulation/chance.js';
import { measureCommands } from './commands.js';
import { differences } from './contents.js';
import { AnswerWatch, underStorm, type StormAccount } from './under-storm.js';

export interface MeasureOptions {
  readonly leases: number;
  readonly seconds: number;
  readonly changesPerSecond: number;
  readonly seed: number;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

type Facts = readonly (readonly [name: string, value: string])[];

/** Of the leases, so many change. */
const STORMY_SUBNETS = 4096;
const STARTS = 3;

export interface Measured {
  readonly facts: Facts;
  /** What was not as it has to be; empty when all was. */
  readonly failures: readonly string[];
}

export async function measureStorm(options: MeasureOptions): Promise<Measured> {
  const { leases, seconds, say } = options;
  const config = { Network: '10.0.0.0/8', SubnetMin: '10.0.0.0' };
  const cluster = await Cluster.create('storm', { nodes: 2, config });
  try {
    say(`writing ${leases} leases`);
    await putFarLeases(cluster.etcd, PREFIX, leases - 2);
    await cluster.startAll();
    const [node] = cluster.nodes;
    const [from, to] = cluster.nodes.map(({ pods }) => pods[0]);
    await untilReached(from, to);
    say('starts');
    const facts: [string, string][] = await measureStarts(node, options);
    say('commands');
    await untilReached(from, to);
    facts.push(...(await measureCommands(node, cluster.nodes[1])));
    const failures: string[] = [];
    if ((await differences(node, new Chance(options.seed))).length !== 0) {
      failures.push('the table differed from etcd before the storm');
    }
    if (seconds > 0) {
      const pacedTraffic = await compileHarness('paced_traffic.cc', cluster.folder);
      await untilReached(from, to);
      say(`${seconds} s of storm`);
      const account = await underStorm(cluster, { ...options, subnets: STORMY_SUBNETS, pacedTraffic });
      facts.push(...stormFacts(account));
      failures.push(...failuresOf(account));
    }
    return { facts, failures };
  } finally {
    await cluster.dispose();
  }
}

/** From the start of the process to a full table, without a snapshot and by one. */
async function measureStarts(node: ClusterNode, { leases, signal }: MeasureOptions): Promise<[string, string][]> {
  const rows: string[][] = [[], [], [], [], []];
  for (let start = 0; start < STARTS; start++) {
    signal.throwIfAborted();
    await node.running.stop();
    const snapshot = `${node.running.subnetFile}.snapshot`;
    if (start === 0) rows[4].push(`${(statSync(snapshot).size / 1e3).toFixed(0)} kB`);
    else await runCommand('rm', ['-f', snapshot]);
    const startedMs = performance.now();
    const daemon = node.launch();
    const answers = new AnswerWatch(node);
    await until(
      'the table is full',
      async () => {
        signal.throwIfAborted();
        const status = await daemon.status().catch(() => undefined);
        if (status !== undefined && !answers.begun) answers.begin();
        return status?.backend?.table.leases === leases - 1;
      },
      { everyMs: 5 },
    );
    const fullMs = performance.now() - startedMs;
    await until('it is ready', async () => (await daemon.status()).state === 'ready', { everyMs: 5 });
    const readyMs = performance.now() - startedMs;
    await sleep(2000, undefined, { signal });
    await answers.stop();
    rows[0].push(`${start === 0 ? 'by a snapshot ' : ''}${fullMs.toFixed(0)} ms`);
    rows[1].push(`${readyMs.toFixed(0)} ms`);
    rows[2].push(`${answers.longestMs.toFixed(0)} ms`);
    rows[3].push(`${processSeconds([daemon.pid]).toFixed(2)} s`);
  }
  const memory = `${(residentKib(node.running.pid) / 1024).toFixed(0)} MiB`;
  return [
    ['start to a full table', rows[0].join(', ')],
    ['start to ready', rows[1].join(', ')],
    ['longest answer during a start', rows[2].join(', ')],
    ['processor time of a start and two seconds', rows[3].join(', ')],
    ['snapshot', rows[4].join(', ')],
    ['resident memory after the starts', memory],
  ];
}

function failuresOf({ differences, traffic: { there, back, tcp } }: StormAccount): string[] {
  const failures: string[] = [];
  if (differences.length !== 0) failures.push('table and etcd differ after the storm');
  if (there.lost + back.lost !== 0) failures.push('datagrams were lost');
  if (!tcp.intact) failures.push('the TCP stream is not intact');
  return failures;
}

function stormFacts(account: StormAccount): [string, string][] {
  const { storm, traffic, memoryKib, logged } = account;
  const lost = ({ sent, lost, outOfOrder }: { sent: number; lost: number; outOfOrder: number }): string =>
    `${lost} of ${sent} lost, ${outOfOrder} out of order`;
  const mebibytes = (kib: number): string => (kib / 1024).toFixed(0);
  return [
    [
      'storm',
      `${storm.writes} changes in ${storm.seconds.toFixed(1)} s, and ${storm.expiring} put for two seconds: ` +
        `${((storm.writes + storm.expiring) / storm.seconds).toFixed(0)} a second`,
    ],
    ['datagrams there', lost(traffic.there)],
    ['datagrams back', lost(traffic.back)],
    ['TCP stream', `${(traffic.tcp.bytes / 1e6).toFixed(0)} MB, ${traffic.tcp.trouble ?? 'intact'}`],
    ['table and etcd agree', `${account.rightAfterMs.toFixed(0)} ms after it, ${account.differences.length} differ`],
    [
      'processor time',
      `${account.cpuPercent.toFixed(0)} % of a core, ${account.calmCpuPercent.toFixed(0)} % before it`,
    ],
    ['resident memory of the storm', `${mebibytes(memoryKib.start)} MiB before, ${mebibytes(memoryKib.end)} MiB after`],
    ['longest answer during the storm', `${account.longestAnswerMs.toFixed(0)} ms`],
    ['lines in the log during the storm', String(logged.length)],
  ];
}
