/** `npm run hostile`: floods of hostile packets against an agent, and a table of what became of them. */
import { Command } from 'commander';
import { count, parseCommandLine } from '../../bench/command-line.js';
import { runProgram } from '../../bench/program.js';
import { paintFor } from '../../src/flannelctl/paint.js';
import { requireRoot } from '../../src/lab/requirements.js';
import { runAssault } from './assault.js';
import { assaultReport } from './report.js';

const DEFAULT_PACKETS = 1_000_000;
const MAX_SEED = 2 ** 32 - 1;

interface Parsed {
  readonly packets: number;
  readonly seed?: number;
}

const command = new Command('npm run hostile --')
  .usage('[OPTIONS]')
  .description(
    'Makes two nodes in network namespaces and sends hostile packets to one of them: over the underlay with and without ' +
      'a lease, from a pod, and into flannel0. Prints what was sent and what became of it.',
  )
  .helpOption('-h, --help', 'explain and exit')
  .option('--packets <count>', 'how many', count(1000, 1_000_000_000), DEFAULT_PACKETS)
  .option('--seed <number>', 'what chance begins with (default: chosen and printed)', count(1, MAX_SEED))
  .addHelpText(
    'after',
    '\nExit status: 0 everything is accounted for and pings are answered after it, 1 not so,\n2 the command line is wrong.',
  )
  .configureHelp({ helpWidth: 110 });

process.exitCode = await runProgram('hostile', async (signal) => {
  const parsed = parseCommandLine(command, process.argv.slice(2), (text) => void process.stdout.write(text));
  if (parsed === undefined) return 0;
  requireRoot();
  const { packets, seed = 1 + Math.floor(Math.random() * MAX_SEED) } = parsed.opts<Parsed>();
  const say = (line: string): void => void process.stderr.write(`hostile: ${line}\n`);
  say(`seed ${seed}`);
  const assault = await runAssault({ packets, seed, say, signal });
  process.stdout.write(`${assaultReport(assault, paintFor(process.stdout, process.env)).join('\n')}\n`);
  const { underlayMissing, tunMissing, after } = assault;
  const failures: string[] = [];
  if (underlayMissing !== 0) failures.push(`${underlayMissing} packets of the way in are not accounted for`);
  if (tunMissing !== 0) failures.push(`${tunMissing} packets of the way out are not accounted for`);
  if (after.received !== after.sent) failures.push('pings after the floods were not answered');
  say(failures.length === 0 ? 'passed: every packet is accounted for' : `failed: ${failures.join('; ')}`);
  return failures.length === 0 ? 0 : 1;
});
