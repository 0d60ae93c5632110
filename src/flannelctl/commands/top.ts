import { Option, type Command } from 'commander';
import { setTimeout as sleep } from 'node:timers/promises';
import { childAbort } from '../../child-abort.js';
import { sampleFor } from '../../debug/top/sample-for.js';
import { TOP_PLACES, TrafficSketch, type TopBy } from '../../debug/top/traffic-sketch.js';
import { FlannelError, UsageError } from '../../errors.js';
import type { TapLoss } from '../../observe/tap-protocol.js';
import { parsePrefix } from '../../packet/address.js';
import { type CommandContext, printJson, printLines } from '../context.js';
import { ControlClient } from '../control-client.js';
import { interruptible } from '../lab-options.js';
import { addDaemonOptions, addExamples, addJsonOption, type DaemonOptions, type JsonOption } from '../options.js';
import { duration, fraction, positive } from '../packet-options.js';
import { paintFor } from '../paint.js';
import { showInPlace } from '../terminal.js';
import { topReport, type TopAnswer } from '../top-report.js';
import { describeLoss } from '../watch-packets.js';

interface TopOptions extends DaemonOptions, JsonOption {
  readonly by: TopBy;
  readonly count: number;
  readonly interval: number;
  readonly duration?: number;
  readonly once?: true;
  readonly sample?: number;
}

/** Headers with all their options; the daemon sends no less. */
const TOP_BYTES = 128;
/** What a terminal shows beside the lines of the tables: the head, two titles, two empty lines, the cursor's. */
const ROWS_BESIDE = 6;
/** Between two looks at the counters, to tell how much of the traffic to look at. */
const RATE_MS = 200;

/** `flannelctl top`: who talks most. */
export function addTopCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('top')
    .summary('show the busiest pairs of subnets and the busiest flows')
    .description(
      'Shows which pairs of subnets and which flows are busiest on this node, anew after each interval. It looks at one ' +
        'packet in so many, the fewer the more there are, and scales up what it sees. However many flows there are, ' +
        `it remembers ${TOP_PLACES} of them: what is shown may be too low by 1/${TOP_PLACES} of all traffic, and nothing ` +
        'that is busier than that is left out. With --json it prints one object. Ends with Ctrl-C.',
    )
    .addOption(new Option('--by <what>', 'what counts').choices(['bytes', 'packets']).default('bytes'))
    .option('--count <lines>', 'lines of each table', positive, 10)
    .addOption(new Option('--interval <time>', 'time between two refreshes').argParser(duration).default(2000, '2s'))
    .addOption(new Option('--duration <time>', 'end after this time, such as 30s or 5m').argParser(duration))
    .option('--once', 'end after one interval')
    .option('--sample <1/n>', 'look at one packet in so many (default: chosen by how many there are)', fraction);
  addDaemonOptions(addJsonOption(command), context);
  addExamples(command, [
    ['flannelctl top', 'who uses the bandwidth'],
    ['flannelctl top --by packets --once', 'who sends most packets, once'],
    ["flannelctl top --json --duration 10s | jq '.pairs[0]'", 'the busiest pair of subnets of ten seconds'],
  ]);
  command.action(async (options: TopOptions) => {
    if (options.once && options.duration !== undefined)
      throw new UsageError('--once and --duration exclude each other');
    await interruptible(context, (signal) => show(options, context, signal));
  });
}

async function show(options: TopOptions, context: CommandContext, signal: AbortSignal): Promise<void> {
  const client = new ControlClient(options.socket);
  const paint = paintFor(context.stdout, context.env);
  const live = context.stdout.isTTY === true && !options.once;
  let every = options.sample ?? (await measureSample(client, signal));
  const endMs = performance.now() + (options.duration ?? Infinity);
  while (!signal.aborted) {
    const window = options.json ? (options.duration ?? options.interval) : options.interval;
    const before = await packetsOf(client);
    const startedMs = performance.now();
    const answer = await collect(client, options, { every, windowMs: window }, signal);
    const seconds = (performance.now() - startedMs) / 1000;
    if (options.json) {
      printJson(context, answer);
      return;
    }
    if (live) showInPlace(context.stdout, topReport(forRows(answer, context.stdout.rows), paint));
    else printLines(context.stdout, topReport(answer, paint));
    const complaint = describeLoss(answer.lost);
    if (complaint !== undefined) printLines(context.stderr, [`flannelctl: ${complaint}`]);
    if (options.once || performance.now() >= endMs) return;
    every = options.sample ?? sampleFor((await packetsOf(client)) - before, seconds);
    if (!live) printLines(context.stdout, ['']);
  }
}

/** As many lines of both tables as a terminal of so many rows has room for. */
function forRows(answer: TopAnswer, rows: number | undefined): TopAnswer {
  const lines = Math.max(1, Math.floor(((rows || Infinity) - ROWS_BESIDE) / 2));
  return { ...answer, pairs: answer.pairs.slice(0, lines), flows: answer.flows.slice(0, lines) };
}

/** What passes in a time. */
async function collect(
  client: ControlClient,
  { by, count }: TopOptions,
  { every, windowMs }: { every: number; windowMs: number },
  signal: AbortSignal,
): Promise<TopAnswer> {
  const { lease, publicIP = '' } = await client.status();
  const sketch = new TrafficSketch(by, parsePrefix(lease?.subnet ?? ''));
  const end = childAbort(signal);
  let timer: NodeJS.Timeout | undefined;
  let startedMs = performance.now();
  let lost: TapLoss = { ring: 0, reader: 0 };
  try {
    const request = { every, packetBytes: TOP_BYTES, wirePackets: false };
    for await (const frame of client.tap(request, end.signal)) {
      if (frame.kind === 'event') sketch.add(frame.event);
      else if (frame.kind === 'loss') lost = frame.loss;
      else {
        startedMs = performance.now();
        timer = setTimeout(() => end.abort(), windowMs);
      }
    }
  } finally {
    clearTimeout(timer);
    end.abort();
  }
  return {
    time: new Date().toISOString(),
    node: publicIP,
    seconds: Math.round(performance.now() - startedMs) / 1000,
    by,
    sampledEvery: every,
    records: sketch.records,
    lost,
    total: sketch.total,
    pairs: sketch.busiestPairs(count),
    flows: sketch.busiestFlows(count),
  };
}

async function measureSample(client: ControlClient, signal: AbortSignal): Promise<number> {
  const before = await packetsOf(client);
  await sleep(RATE_MS, undefined, { signal }).catch(() => undefined);
  return sampleFor((await packetsOf(client)) - before, RATE_MS / 1000);
}

/** Packets that the dataplane has handled so far. */
async function packetsOf(client: ControlClient): Promise<number> {
  const { backend, state } = await client.status();
  if (backend === undefined) {
    throw new FlannelError('CONTROL', `no packets flow yet, the agent is at "${state}": see flannelctl status`);
  }
  const handled = [backend.encap, backend.decap].map(({ packets, dropped }) =>
    Object.values(dropped).reduce((sum, one) => sum + one, packets),
  );
  return handled[0] + handled[1];
}
