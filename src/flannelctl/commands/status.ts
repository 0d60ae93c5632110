import type { Command } from 'commander';
import { type CommandContext, printJson, printLines } from '../context.js';
import { ControlClient } from '../control-client.js';
import { addDaemonOptions, addExamples, addJsonOption, type DaemonOptions, type JsonOption } from '../options.js';
import { paintFor } from '../paint.js';
import { statusReport } from '../status-report.js';

/** `flannelctl status`: what the agent of this node is doing. */
export function addStatusCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('status')
    .summary('show what the flanneld of this node is doing')
    .description(
      "Shows the agent's state and what it waits for, its lease and expiry, the external interface, the overlay " +
        'device, the health of the store, and what the packet workers have forwarded and dropped, each reason with ' +
        'its meaning. Exits 0 when the daemon answers, whatever its state; a script reads "state" of the JSON.',
    );
  addDaemonOptions(addJsonOption(command), context);
  addExamples(command, [
    ['flannelctl status', 'the agent of this node'],
    ['flannelctl status --json | jq -e \'.state == "ready"\'', 'succeeds once packets flow'],
    ['flannelctl status --socket /run/flannel/blue.sock', 'the agent of a second network on this host'],
  ]);
  command.action(async (options: DaemonOptions & JsonOption) => {
    const status = await new ControlClient(options.socket).status();
    if (options.json) printJson(context, status);
    else printLines(context.stdout, statusReport(status, paintFor(context.stdout, context.env), Date.now()));
  });
}
