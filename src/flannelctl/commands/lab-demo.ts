import type { Command } from 'commander';
import { UsageError, errorMessage } from '../../errors.js';
import { OWN_FLANNELCTL } from '../../lab/daemon.js';
import { drawLab } from '../../lab/drawing.js';
import { EXERCISE, type Trip } from '../../lab/exercise.js';
import { Lab } from '../../lab/lab.js';
import { DEMO_PROGRAMS } from '../../lab/requirements.js';
import { type CommandContext, printLines } from '../context.js';
import { describeTrip, summarise } from '../lab-account.js';
import {
  addLabNameOption,
  addLabShapeOptions,
  interruptible,
  labOptions,
  progressTo,
  reportInterruption,
  type LabShapeOptions,
} from '../lab-options.js';
import { addExamples } from '../options.js';
import { paintFor } from '../paint.js';

/** How long the nodes may take to hear of each other; a leg that stays silent is for the exercise to report. */
const SETTLE_MS = 5000;

/** `flannelctl lab demo`: a lab, the exercise on it, an account of it, and nothing left behind. */
export function addLabDemoCommand(lab: Command, context: CommandContext): void {
  const command = lab
    .command('demo')
    .summary('build a lab, show every leg of its traffic, take it down')
    .description(
      'Builds a lab, draws it, and does the exercise: pod to pod on one node, across nodes and to the outside, each ' +
        'watched by tcpdump on every device it passes; a traceroute; a few seconds of iperf3. Then it takes the lab ' +
        'down. Exits 1 when any leg fails.',
    );
  addLabShapeOptions(addLabNameOption(command, 'demo'));
  addExamples(command, [
    ['flannelctl lab demo', 'what "npm run demo" runs'],
    ['flannelctl lab demo --flanneld node2=/usr/local/bin/flanneld', 'the same, with a flannel as the second node'],
  ]);
  command.action(async (options: LabShapeOptions & { name: string }) => {
    if (options.nodes < 2 || options.pods < 2) throw new UsageError('the demo needs --nodes 2 and --pods 2 or more');
    if (options.runtime !== 'netns') throw new UsageError('the demo runs its tools in the pods: --runtime netns');
    const wanted = labOptions(options.name, options);
    const failed = await interruptible(context, async (signal) => {
      try {
        return await demonstrate(wanted, context, signal);
      } catch (error) {
        if (!signal.aborted) throw error;
        reportInterruption(context, options.name);
        return 0;
      }
    });
    if (failed > 0) context.exitCode = 1;
  });
}

/** @returns how many trips failed */
async function demonstrate(
  options: ReturnType<typeof labOptions>,
  context: CommandContext,
  signal: AbortSignal,
): Promise<number> {
  const paint = paintFor(context.stdout, context.env);
  const say = (...lines: string[]) => printLines(context.stdout, lines);
  const started = performance.now();
  const heading = (text: string) => say('', paint.strong(`── ${text} ${'─'.repeat(Math.max(0, 74 - text.length))}`));

  heading('Building');
  const progress = progressTo({ ...context, stderr: context.stdout });
  const lab = await Lab.up(options, { signal, progress, programs: DEMO_PROGRAMS, keepOwner: true });
  const trips: Trip[] = [];
  try {
    await lab.settle(SETTLE_MS, signal);
    signal.throwIfAborted();
    heading('The lab');
    say(...drawLab(lab.plan));

    heading('The exercise');
    for (const trip of EXERCISE) {
      const done = await trip(lab, signal);
      signal.throwIfAborted();
      if (trips.length > 0) say('');
      trips.push(done);
      say(...describeTrip(done, paint));
    }

    if (lab.plan.nodes[0].flanneld === null) {
      heading("node1's agent: flannelctl status");
      say(...(await askAgent(lab, 'status')));
      heading("node1's agent: flannelctl leases");
      say(...(await askAgent(lab, 'leases')));
    }
  } finally {
    heading('Taking down');
    await lab.takeDown(progress);
  }

  heading('What went where');
  say(...summarise(trips, paint), '');
  const failed = trips.filter((trip) => !trip.ok).length;
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  say(
    failed === 0
      ? paint.good(`All ${trips.length} parts work; ${seconds} s, and nothing is left behind.`)
      : paint.bad(
          `${failed} of ${trips.length} parts failed; "flannelctl lab up" builds a lab that stays, to look into.`,
        ),
  );
  return failed;
}

async function askAgent(lab: Lab, command: string): Promise<string[]> {
  try {
    const { stdout } = await lab.exec('node1', process.execPath, [OWN_FLANNELCTL, command]);
    return stdout.trimEnd().split('\n');
  } catch (error) {
    return [errorMessage(error)];
  }
}
