import type { Command } from 'commander';
import { errorMessage } from '../../errors.js';
import type { VersionAnswer } from '../../observe/control-protocol.js';
import { VERSION } from '../../version.js';
import { type CommandContext, printJson, printLines } from '../context.js';
import { ControlClient } from '../control-client.js';
import { addDaemonOptions, addExamples, addJsonOption, type DaemonOptions, type JsonOption } from '../options.js';

/** `flannelctl version`: this program's version, and the daemon's when one answers. */
export function addVersionCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('version')
    .summary('show the versions of flannelctl and of the running flanneld')
    .description(
      'Shows the version of flannelctl and, when one answers on the control socket, of flanneld. ' +
        'That no daemon answers is not a failure here.',
    );
  addDaemonOptions(addJsonOption(command), context);
  addExamples(command, [
    ['flannelctl version', 'both versions'],
    ['flannelctl version --json', 'for a script; "flanneld" is null when no daemon answers'],
  ]);
  command.action(async (options: DaemonOptions & JsonOption) => {
    let daemon: VersionAnswer | undefined;
    let absence = '';
    try {
      daemon = await new ControlClient(options.socket).version();
    } catch (error) {
      absence = errorMessage(error);
    }
    if (options.json) {
      printJson(context, { flannelctl: VERSION, flanneld: daemon ?? null });
      return;
    }
    const answer = daemon === undefined ? `not known: ${absence}` : `${daemon.version} (pid ${daemon.pid})`;
    printLines(context.stdout, [`flannelctl ${VERSION}`, `flanneld   ${answer}`]);
  });
}
