/** `npm run soak`: a network under traffic and everything that can happen to it, and a table of what became of it. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command } from 'commander';
import { count, parseCommandLine } from '../../bench/command-line.js';
import { runProgram } from '../../bench/program.js';
import { paintFor } from '../../src/flannelctl/paint.js';
import { requireRoot } from '../../src/lab/requirements.js';
import { ROOT } from '../harness/daemon.js';
import { soakReport } from './report.js';
import { runSoak, type AgentReport } from './soak.js';

const DEFAULT_MINUTES = 1;
const MAX_MINUTES = 7 * 24 * 60;
const MAX_SEED = 2 ** 31;
/** For what the agents of a soak that failed have logged. */
const LOGS = join(ROOT, 'dist/soak');

interface Parsed {
  readonly minutes: number;
  readonly seed?: number;
}

const command = new Command('npm run soak --')
  .usage('[OPTIONS]')
  .description(
    'Makes three nodes in network namespaces with a real etcd, and traffic between their pods. Meanwhile agents are ' +
      'restarted, taken over from and killed, leases come and go, etcd fails, cables are cut and queues overflow, as ' +
      'chance has it. Prints what became of every packet, and how the agents fared.',
  )
  .helpOption('-h, --help', 'explain and exit')
  .option('--minutes <count>', 'how long', count(1, MAX_MINUTES), DEFAULT_MINUTES)
  .option('--seed <number>', 'what chance begins with (default: chosen and printed)', count(1, MAX_SEED))
  .addHelpText(
    'after',
    '\nExit status: 0 every packet is accounted for and nothing happened that must not, 1 not so,\n2 the command line is wrong.',
  )
  .configureHelp({ helpWidth: 110 });

process.exitCode = await runProgram('soak', async (signal) => {
  const parsed = parseCommandLine(command, process.argv.slice(2), (text) => void process.stdout.write(text));
  if (parsed === undefined) return 0;
  requireRoot();
  const { minutes, seed = 1 + Math.floor(Math.random() * MAX_SEED) } = parsed.opts<Parsed>();
  const say = (line: string): void => void process.stderr.write(`soak: ${line}\n`);
  say(`${minutes === 1 ? '1 minute' : `${minutes} minutes`}, seed ${seed}`);
  const report = await runSoak({ minutes, seed, say, signal });
  process.stdout.write(`${soakReport(report, paintFor(process.stdout, process.env)).join('\n')}\n`);
  for (const failure of report.failures) say(`failed: ${failure}`);
  if (report.failures.length === 0) {
    say('passed: every packet is accounted for, and nothing happened that must not');
    return 0;
  }
  await keepLogs(report.agents);
  say(`what the agents have logged is in ${LOGS}`);
  return 1;
});

async function keepLogs(agents: readonly AgentReport[]): Promise<void> {
  await mkdir(LOGS, { recursive: true });
  await Promise.all(agents.map(({ node, log }) => writeFile(join(LOGS, `${node}.log`), log)));
}
