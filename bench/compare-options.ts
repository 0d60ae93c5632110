/** The command line of `npm run bench:compare`. */
import { Command } from 'commander';
import { count, list, oneOf, parseCommandLine } from './command-line.js';
import { MEASURES } from './measures/index.js';
import { VETH_MODES } from './veth-mode.js';

export interface CompareOptions {
  /** Anything that git takes for a revision. */
  readonly base: string;
  readonly rounds: number;
  readonly seconds: number;
  readonly measures: readonly string[];
  readonly mode: string;
}

const measures = MEASURES.map(({ name }) => name);
const modes = VETH_MODES.map(({ name }) => name);
/** One for many bytes, one for many packets. */
const DEFAULT_MEASURES = ['tcp', 'udp-64'];

function buildCommand(): Command {
  return new Command('npm run bench:compare --')
    .usage('[OPTIONS] BASE')
    .description(
      "Tells whether this checkout's agent is faster than that of a revision: builds BASE in a temporary git worktree, " +
        'lets both take turns, and gives the ratio of what they reach with its confidence interval.',
    )
    .argument('<base>', 'a revision, such as main or HEAD~3')
    .helpOption('-h, --help', 'explain and exit')
    .option('--rounds <count>', 'turns of each', count(2, 1000), 10)
    .option('--seconds <count>', 'length of a measurement', count(1, 3600), 2)
    .option(
      '--measure <list>',
      `what to measure, of ${measures.join(', ')}`,
      list('measure', measures),
      DEFAULT_MEASURES,
    )
    .option('--mode <mode>', 'what the cable does', oneOf(modes), modes[0])
    .addHelpText('after', EXAMPLES)
    .configureHelp({ helpWidth: 110 });
}

const EXAMPLES = `
Examples:
  npm run bench:compare HEAD                  what is not committed yet, against the last commit
  npm run bench:compare -- --rounds 20 main

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
  const { measure: measures, ...options } = command.opts<Omit<CompareOptions, 'base'> & { measure: string[] }>();
  return { ...options, measures, base: command.args[0] };
}
