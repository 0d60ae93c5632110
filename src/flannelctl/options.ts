import { type Command, InvalidArgumentError } from 'commander';
import { UsageError } from '../errors.js';
import type { CommandContext } from './context.js';

/** Where `flanneld` listens unless it is told otherwise (`--control-socket`). */
export const DEFAULT_CONTROL_SOCKET = '/run/flannel/flanneld.sock';

/** What {@link addDaemonOptions} fills. */
export interface DaemonOptions {
  readonly socket: string;
}

/** What {@link addJsonOption} fills. */
export interface JsonOption {
  readonly json?: true;
}

/** `--socket PATH`, for every command that asks the running daemon. flanneld's own variable moves its default. */
export function addDaemonOptions(command: Command, { env }: Pick<CommandContext, 'env'>): Command {
  const preset = env.FLANNELD_CONTROL_SOCKET || DEFAULT_CONTROL_SOCKET;
  return command.option('--socket <path>', 'control socket of the flanneld to ask', readSocketPath, preset);
}

function readSocketPath(given: string): string {
  if (given === '') throw new UsageError("--socket '': expected the path of a control socket");
  return given;
}

/** `--json`, for every command that answers something. */
export function addJsonOption(command: Command): Command {
  return command.option('--json', 'print JSON, for machines');
}

/** Examples at the end of a command's help: what to type, and what it does. */
export function addExamples(command: Command, examples: readonly (readonly [line: string, what: string])[]): Command {
  const lines = examples.flatMap(([line, what]) => [`  # ${what}`, `  $ ${line}`]);
  return command.addHelpText('after', `\nExamples:\n${lines.join('\n')}`);
}

/** Reads an option that is a whole number of up to five digits. */
export function wholeNumber(from: number, to: number): (text: string) => number {
  return (text) => {
    if (!/^\d{1,5}$/.test(text) || Number(text) < from || Number(text) > to) {
      throw new InvalidArgumentError(`expected a whole number from ${from} to ${to}.`);
    }
    return Number(text);
  };
}
