/** `npm run bench:agent`: what the agent costs beside the packets: its start, its memory, how late it learns of a change. */
import { Command } from 'commander';
import { UsageError } from '../../src/errors.js';
import { count, parseCommandLine } from '../command-line.js';
import { describeMachine } from '../machine.js';
import { runProgram } from '../program.js';
import { Progress } from '../progress.js';
import { requireBenchMachine } from '../requirements.js';
import { measureMemory } from './memory.js';
import { measureOutage } from './outage.js';
import { measureTable } from './table.js';

const NAME = 'bench:agent';

interface AgentBenchOptions {
  readonly seconds: number;
  readonly leases: number;
  readonly changes: number;
  readonly outage: number;
}

function buildCommand(): Command {
  return new Command('npm run bench:agent --')
    .usage('[OPTIONS]')
    .description(
      'Measures how long the agent takes from its start to a full table, from a change in etcd to the table, and its ' +
        'memory and garbage collections under mixed traffic, and what it costs it while etcd is away.',
    )
    .helpOption('-h, --help', 'explain and exit')
    .option('--seconds <count>', 'length of the traffic; 0 leaves it out', count(0, 86_400), 120)
    .option('--leases <count>', 'leases in etcd; 0 leaves the table out', count(0, 60_000), 10_000)
    .option('--changes <count>', 'changes in etcd', count(1, 99_999), 500)
    .option('--outage <seconds>', 'length of each outage of etcd; 0 leaves them out', count(0, 3600), 20)
    .addHelpText('after', EXAMPLES)
    .configureHelp({ helpWidth: 110 });
}

const EXAMPLES = `
Examples:
  npm run bench:agent -- --seconds 0 --outage 0                the table only
  npm run bench:agent -- --leases 0 --outage 0 --seconds 3600  an hour of traffic
  npm run bench:agent -- --leases 0 --seconds 0 --outage 60    etcd away for a minute, in several ways

Exit status: 0 done, 1 it failed, 2 the command line is wrong.`;

process.exitCode = await runProgram(NAME, async (signal) => {
  const command = parseCommandLine(buildCommand(), process.argv.slice(2), (text) => void process.stdout.write(text));
  if (command === undefined) return 0;
  const { seconds, leases, changes, outage } = command.opts<AgentBenchOptions>();
  if (seconds === 0 && leases === 0 && outage === 0) {
    throw new UsageError('--seconds 0, --leases 0 and --outage 0 leave nothing to measure');
  }
  requireBenchMachine();
  const progress = new Progress(NAME);
  const print = (line: string): void => {
    progress.clear();
    process.stdout.write(`${line}\n`);
  };
  const { cpu, kernel, node } = await describeMachine();
  print(`${cpu}, Linux ${kernel}, Node ${node}`);
  if (leases > 0) (await measureTable({ leases, changes, progress, signal })).forEach(print);
  if (seconds > 0) (await measureMemory({ seconds, progress, signal })).forEach(print);
  if (outage > 0) (await measureOutage({ seconds: outage, progress, signal })).forEach(print);
  return 0;
});
