/** What the command lines of the benchmarks have in common. */
import { CommanderError, InvalidArgumentError, type Command } from 'commander';
import { UsageError } from '../src/errors.js';
import { complaint } from '../src/flannelctl/complaint.js';

/**
 * Reads a command line (without `node` and the script's name).
 * @param print - takes the help's text
 * @param environment - tells which options npm has kept for itself
 * @returns the command with its options; `undefined` when help was asked for and printed
 * @throws UsageError
 */
export function parseCommandLine(
  command: Command,
  args: readonly string[],
  print: (text: string) => void,
  environment: NodeJS.ProcessEnv = process.env,
): Command | undefined {
  refuseOptionsOfNpm(command, environment);
  command
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({ writeOut: print, writeErr: print, outputError: () => undefined });
  try {
    return command.parse(args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return undefined;
    throw new UsageError(`${complaint(error)}; see --help`);
  }
}

/** `npm run bench --quick` makes `--quick` a setting of npm's own, which the programs that it runs see as `npm_config_quick`. */
function refuseOptionsOfNpm(command: Command, environment: NodeJS.ProcessEnv): void {
  const kept = command.options.find((option) => environment[`npm_config_${option.name().replaceAll('-', '_')}`]);
  if (kept === undefined) return;
  throw new UsageError(
    `npm took ${kept.long} for an option of its own: put "--" before it: ${command.name()} ${kept.long} …`,
  );
}

/** A parser of whole numbers, of ten digits at most. */
export function count(least: number, most: number): (text: string) => number {
  return (text) => {
    if (/^[0-9]{1,10}$/.test(text) && Number(text) >= least && Number(text) <= most) return Number(text);
    throw new InvalidArgumentError(`expected a whole number from ${least} to ${most}.`);
  };
}

/** A parser of `a,b`: some of the names, in the order in which they are known, each once. */
export function list<Name extends string>(what: string, known: readonly Name[]): (text: string) => readonly Name[] {
  return (text) => {
    const given = text.split(',');
    const unknown = given.find((name) => !known.some((one) => one === name));
    if (unknown !== undefined) {
      throw new InvalidArgumentError(`there is no ${what} "${unknown}": expected some of ${known.join(', ')}.`);
    }
    return known.filter((name) => given.includes(name));
  };
}

/** A parser of one name of several. */
export function oneOf<Name extends string>(known: readonly Name[]): (text: string) => Name {
  return (text) => {
    const found = known.find((name) => name === text);
    if (found === undefined) throw new InvalidArgumentError(`expected one of ${known.join(', ')}.`);
    return found;
  };
}
