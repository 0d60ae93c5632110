/** The command line of `npm run bench:compare`. */
import { Command, Option } from 'commander';
import { UsageError } from '../src/errors.js';
import { fraction } from '../src/flannelctl/packet-options.js';
import { count, list, oneOf, parseCommandLine } from './command-line.js';
import { MEASURES } from './measures/index.js';
import { VETH_MODES } from './veth-mode.js';

export interface CompareOptions {
  /** Anything that git takes for a revision; `undefined` with `tracedEvery`: this checkout, and nobody looks. */
  readonly base: string | undefined;
  /** This checkout's agent is measured while one packet in so many is traced. */
  readonly tracedEvery: number | undefined;
  readonly rounds: number;
  readonly seconds: number;
  readonly measures: readonly string[];
  readonly mode: string;
}

/** What commander makes of the command line. */
type Parsed = Pick<CompareOptions, 'rounds' | 'seconds' | 'mode'> & {
  readonly measure: readonly string[];
  readonly traced?: number;
};

const measures = MEASURES.map(({ name }) => name);
const modes = VETH_MODES.map(({ name }) => name);
/** One for many bytes, one for many packets. */
const DEFAULT_MEASURES = ['tcp', 'udp-64'];

function buildCommand(): Command {
  return new Command('npm run bench:compare --')
    .usage('[OPTIONS] [BASE]')
    .description(
      "Tells whether this checkout's agent is faster than that of a revision: builds BASE in a temporary git worktree, " +
        'lets both take turns, and gives the ratio of what they reach with its confidence interval. Without BASE, ' +
        '--traced tells what a trace costs this checkout.',
    )
    .argument('[base]', 'a revision, such as main or HEAD~3')
    .helpOption('-h, --help', 'explain and exit')
    .option('--rounds <count>', 'turns of each', count(2, 1000), 10)
    .option('--seconds <count>', 'length of a measurement', count(1, 3600), 2)
    .addOption(
      new Option('--measure <list>', `what to measure, of ${measures.join(', ')}`)
        .argParser(list('measure', measures))
        .default(DEFAULT_MEASURES, DEFAULT_MEASURES.join(',')),
    )
    .option('--mode <mode>', `what the cable does, one of ${modes.join(', ')}`, oneOf(modes), modes[0])
    .option('--traced <1/n>', 'while "flannelctl trace --sample 1/N" runs on both nodes of this checkout', fraction)
    .addHelpText('after', EXAMPLES)
    .configureHelp({ helpWidth: 110 });
}

const EXAMPLES = `
Examples:
  npm run bench:compare HEAD                  what is not committed yet, against the last commit
  npm run bench:compare -- --rounds 20 main
  npm run bench:compare -- --traced 1/1000    what looking costs

Exit status: 0 done, whatever the verdict; 1 it failed; 2 the command line is wrong.`;

/**
 * Reads the command line (without `node` and the script's name).
 * @param print - takes the help's text
 * @returns `undefined` when help was asked for and printed
 * @throws UsageError
 */
export function parseCompareOptions(
  args: readonly string[],
  print: (text: string) => void,
): CompareOptions | undefined {
  const command = parseCommandLine(buildCommand(), args, print);
  if (command === undefined) return undefined;
  const { measure: measures, traced: tracedEvery, ...options } = command.opts<Parsed>();
  const base = command.args.at(0);
  if (base === undefined && tracedEvery === undefined) {
    throw new UsageError('expected a revision to compare with, or --traced; see --help');
  }
  return { ...options, measures, base, tracedEvery };
}
