/** `npm run storm`: an agent with a full table, its start, and a storm of lease changes over it; a table of what it cost. */
import { Command } from 'commander';
import { count, parseCommandLine } from '../../bench/command-line.js';
import { runProgram } from '../../bench/program.js';
import { formatFacts } from '../../src/flannelctl/table.js';
import { requireRoot } from '../../src/lab/requirements.js';
import { MOST_LEASES } from '../harness/many-leases.js';
import { measureStorm } from './measure.js';

const MAX_SEED = 2 ** 32 - 1;

interface Parsed {
  readonly leases: number;
  readonly seconds: number;
  readonly rate: number;
  readonly seed?: number;
}

const command = new Command('npm run storm --')
  .usage('[OPTIONS]')
  .description(
    'Makes two nodes in network namespaces and an etcd full of leases, starts an agent, and lets leases change while ' +
      'packets flow. Prints what the start and the storm cost, and whether table and etcd agree afterwards.',
  )
  .helpOption('-h, --help', 'explain and exit')
  .option('--leases <count>', 'leases in etcd, both nodes included', count(100, MOST_LEASES), MOST_LEASES)
  .option('--seconds <count>', 'length of the storm; 0 leaves it out', count(0, 86_400), 10)
  .option('--rate <count>', 'changes a second', count(10, 10_000), 1000)
  .option('--seed <number>', 'what chance begins with (default: chosen and printed)', count(1, MAX_SEED))
  .addHelpText(
    'after',
    '\nExit status: 0 the table was right and no packet was lost, 1 not so, 2 the command line is wrong.',
  )
  .configureHelp({ helpWidth: 110 });

process.exitCode = await runProgram('storm', async (signal) => {
  const parsed = parseCommandLine(command, process.argv.slice(2), (text) => void process.stdout.write(text));
  if (parsed === undefined) return 0;
  requireRoot();
  const { leases, seconds, rate, seed = 1 + Math.floor(Math.random() * MAX_SEED) } = parsed.opts<Parsed>();
  const say = (line: string): void => void process.stderr.write(`storm: ${line}\n`);
  say(`seed ${seed}`);
  const { facts, failures } = await measureStorm({ leases, seconds, changesPerSecond: rate, seed, say, signal });
  process.stdout.write(`${formatFacts(facts).join('\n')}\n`);
  say(
    failures.length === 0 ? 'passed: table and etcd agree, and no packet was lost' : `failed: ${failures.join('; ')}`,
  );
  return failures.length === 0 ? 0 : 1;
});
