import { stripVTControlCharacters } from 'node:util';
import { Command, CommanderError } from 'commander';
import { UsageError, errorMessage } from '../errors.js';
import { VERSION } from '../version.js';
import { addCaptureCommand } from './commands/capture.js';
import { addDockerOptsCommand } from './commands/docker-opts.js';
import { addDoctorCommand } from './commands/doctor.js';
import { addDropsCommand } from './commands/drops.js';
import { addExplainCommand } from './commands/explain.js';
import { addLabCommand } from './commands/lab.js';
import { addLeasesCommand } from './commands/leases.js';
import { addNetworkCommand } from './commands/network.js';
import { addProbeCommand } from './commands/probe.js';
import { addStatusCommand } from './commands/status.js';
import { addTopCommand } from './commands/top.js';
import { addTraceCommand } from './commands/trace.js';
import { addVersionCommand } from './commands/version.js';
import { complaint } from './complaint.js';
import type { CommandContext } from './context.js';

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;

/** The whole program. A command is a file under `commands/` whose function adds itself here. */
export function buildProgram(context: CommandContext): Command {
  const program = new Command('flannelctl')
    .description('Looks into a running flanneld, and keeps the leases and the network configuration in etcd.')
    .usage('COMMAND [OPTIONS]')
    .version(VERSION, '-V, --version', 'print the version of flannelctl and exit')
    .helpOption('-h, --help', 'explain a command and exit')
    .commandsGroup('Help:')
    .helpCommand('help [command]', 'explain a command')
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .exitOverride()
    .configureHelp({ helpWidth: 100, subcommandTerm: termInList })
    .configureOutput({
      writeOut: (text) => void context.stdout.write(text),
      writeErr: (text) => void context.stderr.write(text),
      // `run` prints the one line, so that errors of every kind look the same.
      outputError: () => undefined,
    });
  program.commandsGroup('This node:');
  addStatusCommand(program, context);
  addLeasesCommand(program, context);
  addDockerOptsCommand(program, context);
  addVersionCommand(program, context);
  program.commandsGroup('Where do packets go:');
  addDropsCommand(program, context);
  addTopCommand(program, context);
  addTraceCommand(program, context);
  addCaptureCommand(program, context);
  addExplainCommand(program, context);
  addProbeCommand(program, context);
  addDoctorCommand(program, context);
  program.commandsGroup('The whole network:');
  addNetworkCommand(program, context);
  program.commandsGroup('To try things:');
  addLabCommand(program, context);
  program.addHelpText('after', EXIT_STATUS);
  return program;
}

/** A command in the list of its parent: its name and arguments, for its options are its own help's matter. */
function termInList(command: Command): string {
  if (command.commands.length > 0) return command.name();
  const { registeredArguments } = command;
  const words = registeredArguments.map((argument) =>
    argument.required ? `<${argument.name()}>` : `[${argument.name()}]`,
  );
  return [command.name(), ...words].join(' ');
}

const EXIT_STATUS = `
Exit status: 0 done, 1 it failed, 2 the command line is wrong. Errors are one line on standard error.
'flannelctl COMMAND --help' explains a command and shows examples.`;

/**
 * Runs one command line (without `node` and the script's name).
 * @returns the exit status: 0 done, 1 failed, 2 usage. Never throws; errors are one line on `context.stderr`.
 */
export async function run(args: readonly string[], context: CommandContext): Promise<number> {
  const program = buildProgram(context);
  try {
    await program.parseAsync(helpForm(program, args), { from: 'user' });
    return context.exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0; // --help, --version
      if (error.code !== 'commander.help') printError(context, usageMessage(program, error, args));
      return EXIT_USAGE;
    }
    printError(context, errorMessage(error));
    return error instanceof UsageError ? EXIT_USAGE : EXIT_FAILURE;
  }
}

/** `help leases reserve` as `leases reserve --help`, since commander's own help command goes one level deep only. */
function helpForm(program: Command, args: readonly string[]): readonly string[] {
  if (args[0] !== 'help' || args.length < 2) return args;
  const known = commandNames(program, args.slice(1));
  // A first word that is no command is refused as such; below a command, what is known is explained.
  return known.length === 0 ? args.slice(1, 2) : [...known, '--help'];
}

/** The names at the beginning of a command line that are commands, each below the one before. */
function commandNames(program: Command, args: readonly string[]): string[] {
  const names: string[] = [];
  let command = program;
  for (const arg of args) {
    const child = command.commands.find((candidate) => candidate.name() === arg);
    if (child === undefined) break;
    names.push(arg);
    command = child;
  }
  return names;
}

function printError(context: CommandContext, message: string): void {
  // A message may quote what stands in a file or in etcd, which should not steer the terminal.
  context.stderr.write(`flannelctl: ${stripVTControlCharacters(message)}\n`);
}

/** Whether an option was refused only because it stands before a command, as in `flannelctl --json status`. */
function beforeCommand(program: Command, error: CommanderError, args: readonly string[]): boolean {
  const isOption = args[0]?.startsWith('-') ?? false;
  return (
    error.code === 'commander.unknownOption' &&
    isOption &&
    args.some((_, i) => commandNames(program, args.slice(i)).length > 0)
  );
}

/** What is wrong, on one line, and where to read on. */
function usageMessage(program: Command, error: CommanderError, args: readonly string[]): string {
  const text = complaint(error).concat(beforeCommand(program, error, args) ? ': options stand after the command' : '');
  return `${text}; see '${['flannelctl', ...commandNames(program, args), '--help'].join(' ')}'`;
}
