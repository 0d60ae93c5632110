import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { FlannelError, errorMessage } from '../../errors.js';
import { Lab } from '../../lab/lab.js';
import { DEFAULT_LAB_NAME } from '../../lab/plan.js';
import type { CommandContext } from '../context.js';
import { addLabNameOption } from '../lab-options.js';
import { addExamples } from '../options.js';
import { runForeground } from '../foreground.js';

interface LogsOptions {
  readonly name: string;
  readonly follow?: true;
  readonly docker?: true;
}

/** `flannelctl lab logs`: what a daemon of a lab has said. */
export function addLabLogsCommand(lab: Command, context: CommandContext): void {
  const command = lab
    .command('logs')
    .argument('<place>', 'a node, or etcd')
    .summary("show the log of a node's flanneld, or of etcd")
    .description("Shows the log of a node's flanneld, of its Docker engine, or of etcd.");
  addLabNameOption(command, DEFAULT_LAB_NAME)
    .option('-f, --follow', 'go on until interrupted')
    .option('--docker', "the log of the node's Docker engine");
  addExamples(command, [
    ['flannelctl lab logs node2', 'what flanneld said on node2'],
    ['flannelctl lab logs -f node2', 'and what it will say'],
  ]);
  command.action(async (place: string, options: LogsOptions) => {
    const file = (await Lab.open(options.name)).logFile(place, options.docker ? 'dockerd' : 'flanneld');
    if (options.follow) {
      context.exitCode = await runForeground(context, 'tail', ['-n', '+1', '-F', file]);
      return;
    }
    try {
      context.stdout.write(await readFile(file, 'utf8'));
    } catch (error) {
      throw new FlannelError('LAB', `cannot read the log of ${place}: ${errorMessage(error)}`, { cause: error });
    }
  });
}
