/** `npm run restarts`: what each way in which an agent ends costs the traffic that passes it. */
import { accessSync, constants } from 'node:fs';
import { resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { count, parseCommandLine } from '../../bench/command-line.js';
import { runProgram } from '../../bench/program.js';
import { UsageError } from '../../src/errors.js';
import { paintFor } from '../../src/flannelctl/paint.js';
import { requireRoot } from '../../src/lab/requirements.js';
import { noCompiler } from '../harness/compile.js';
import { missedParts, restartReport } from './report.js';
import { playScenes, SCENES, scenesOfPeer } from './scenes.js';

interface Parsed {
  readonly rounds: number;
  readonly peer?: string;
}

const command = new Command('npm run restarts --')
  .usage('[OPTIONS]')
  .description(
    'Makes two nodes in network namespaces, and ends the agent of one in each of several ways while 1,000 datagrams a ' +
      'second each way and a TCP stream pass. Prints what was sent and lost, and the longest gap between two arrivals. ' +
      'Where two figures stand, the first is of what the node sends, the second of what it receives.',
  )
  .helpOption('-h, --help', 'explain and exit')
  .option('--rounds <count>', 'how often each of them', count(1, 1000), 1)
  .option('--peer <flanneld=PATH>', 'the same of another flanneld, which keeps nothing over a restart', peerProgram)
  .addHelpText(
    'after',
    '\nGoals: nothing lost or out of order with a descriptor store and in a takeover; at most what\nwas in its ' +
      'hands when it is killed or its workers fail; no gap of 700 ms; TCP intact.\n' +
      'Exit status: 0 every goal is met, 1 one is missed, 2 the command line is wrong.',
  )
  .configureHelp({ helpWidth: 110 });

process.exitCode = await runProgram('restarts', async (signal) => {
  const parsed = parseCommandLine(command, process.argv.slice(2), (text) => void process.stdout.write(text));
  if (parsed === undefined) return 0;
  requireRoot();
  if (noCompiler !== false) throw new UsageError(`it ${noCompiler}`);
  const { rounds, peer } = parsed.opts<Parsed>();
  const say = (line: string): void => void process.stderr.write(`restarts: ${line}\n`);
  const paint = paintFor(process.stdout, process.env);
  const print = (lines: readonly string[]): void => void process.stdout.write(`${lines.join('\n')}\n`);
  const outcomes = await playScenes({ scenes: SCENES, rounds, say, signal });
  print(restartReport(outcomes, paint));
  if (peer !== undefined) {
    print(['', `${peer}:`]);
    print(restartReport(await playScenes({ scenes: scenesOfPeer(peer), rounds, program: peer, say, signal }), paint));
  }
  const missed = outcomes.filter((outcome) => (missedParts(outcome) ?? []).length > 0).length;
  if (missed > 0)
    say(`failed: ${missed === 1 ? '1 way' : `${missed} ways`} missed the goal (see --help for the goals)`);
  else say('passed: every goal is met');
  return missed > 0 ? 1 : 0;
});

function peerProgram(text: string): string {
  const match = /^flanneld=(.+)$/.exec(text);
  if (match === null) throw new InvalidArgumentError('expected flanneld=PATH.');
  const path = resolve(match[1]);
  try {
    accessSync(path, constants.X_OK);
  } catch {
    throw new InvalidArgumentError(`${path} cannot be run.`);
  }
  return path;
}
