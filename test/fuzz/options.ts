/** The command line of `npm run fuzz`. */
import { Command, InvalidArgumentError } from 'commander';
import { count, parseCommandLine } from '../../bench/command-line.js';
import { UsageError } from '../../src/errors.js';
import { FUZZ_TARGETS, type FuzzTarget } from './targets.js';

/** How long each target runs. */
export type FuzzLimit = { readonly seconds: number } | { readonly runs: number };

export interface FuzzOptions {
  readonly targets: readonly FuzzTarget[];
  readonly limit: FuzzLimit;
  /** libFuzzer's, the same for each target. */
  readonly seed: number;
}

const DEFAULT_SECONDS = 30;
/** libFuzzer takes 0 for "by chance". */
const MAX_SEED = 2 ** 32 - 1;
const MAX_RUNS = 1_000_000_000;

interface Parsed {
  readonly seconds?: number;
  readonly runs?: number;
  readonly target?: readonly FuzzTarget[];
  readonly seed?: number;
}

/**
 * Reads the command line (without `node` and the script's name).
 * @param print - takes the help's text
 * @returns `undefined` when help was asked for and printed
 * @throws UsageError
 */
export function parseFuzzOptions(args: readonly string[], print: (text: string) => void): FuzzOptions | undefined {
  const command = new Command('npm run fuzz --')
    .usage('[OPTIONS]')
    .description(
      'Runs libFuzzer over the native code under the address and undefined-behaviour sanitizers, beginning with the ' +
        'inputs that are kept in test/native/fuzz/corpus. What it finds is left in dist/fuzz/findings.',
    )
    .helpOption('-h, --help', 'explain and exit')
    .option('--seconds <count>', `how long each target runs (default: ${DEFAULT_SECONDS})`, count(1, 86_400))
    .option('--runs <count>', 'how often each target runs, instead', count(1, MAX_RUNS))
    .option('--target <list>', `only some of these: ${FUZZ_TARGETS.map(({ name }) => name).join(', ')}`, targets)
    .option('--seed <number>', 'what chance begins with (default: chosen and printed)', count(1, MAX_SEED))
    .addHelpText('after', '\nExit status: 0 nothing found, 1 something found, 2 the command line is wrong.')
    .configureHelp({ helpWidth: 110 });
  const parsed = parseCommandLine(command, args, print)?.opts<Parsed>();
  if (parsed === undefined) return undefined;
  const { seconds, runs, target, seed } = parsed;
  if (seconds !== undefined && runs !== undefined) throw new UsageError('--seconds and --runs exclude each other');
  return {
    targets: target ?? FUZZ_TARGETS,
    limit: runs === undefined ? { seconds: seconds ?? DEFAULT_SECONDS } : { runs },
    seed: seed ?? 1 + Math.floor(Math.random() * MAX_SEED),
  };
}

function targets(text: string): readonly FuzzTarget[] {
  return text.split(',').map((wanted) => {
    const found = FUZZ_TARGETS.find(({ name }) => name === wanted);
    if (found !== undefined) return found;
    const known = FUZZ_TARGETS.map(({ name }) => name).join(', ');
    throw new InvalidArgumentError(`there is no target "${wanted}": expected some of ${known}.`);
  });
}
