/** `npm run simulate`: the lease logic of several nodes against a model of etcd. */
import { Command } from 'commander';
import { count, parseCommandLine } from '../../bench/command-line.js';
import { reportErrors } from '../../bench/program.js';
import { simulate } from './simulate.js';

const DEFAULT_STEPS = 1_000_000;
const MAX_SEED = 2 ** 32 - 1;
/** How many steps pass between two lines on how far it is. */
const STEPS_A_LINE = 1_000_000;

const command = new Command('npm run simulate --')
  .usage('[OPTIONS]')
  .description(
    'Runs the lease logic of several nodes, with its clock and timers, over a network and a model of etcd that fail in ' +
      'every way that chance finds. Ends at the first thing that must not happen, and says with which seed it happens again.',
  )
  .helpOption('-h, --help', 'explain and exit')
  .option('--steps <count>', 'how many', count(1, 1_000_000_000), DEFAULT_STEPS)
  .option('--seed <number>', 'what chance begins with (default: of the moment, and printed)', count(0, MAX_SEED))
  .addHelpText(
    'after',
    '\nExit status: 0 nothing happened that must not, 1 something did, 2 the command line is wrong.',
  )
  .configureHelp({ helpWidth: 110 });

function number(value: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: 1 });
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

process.exitCode = await reportErrors('simulate', async () => {
  const parsed = parseCommandLine(command, process.argv.slice(2), (text) => void process.stdout.write(text));
  if (parsed === undefined) return 0;
  const { steps, seed = Date.now() % MAX_SEED } = parsed.opts<{ steps: number; seed?: number }>();
  print(`simulating ${number(steps)} steps, seed ${seed}`);
  const startedAt = performance.now();
  let told = 0;
  const result = await simulate(steps, seed, (done) => {
    if (done - told < STEPS_A_LINE) return;
    told = done;
    print(`${number(done)} steps`);
  });
  const seconds = (performance.now() - startedAt) / 1000;
  const faults = [...result.happened].sort(([, a], [, b]) => b - a).map(([kind, count]) => `${kind} ${count}`);
  const worlds = result.worlds === 1 ? '1 world' : `${number(result.worlds)} worlds`;
  print(`faults: ${faults.join(', ')}`);
  print(
    `passed: ${number(result.steps)} steps in ${worlds} (${number(result.hours)} simulated hours), ` +
      `in ${number(seconds)} s; nothing happened that must not`,
  );
  return 0;
});
