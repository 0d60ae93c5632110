import type { Command } from 'commander';
import { Lab, type LabStatus } from '../../lab/lab.js';
import { type CommandContext, printJson, printLines } from '../context.js';
import { addExamples, addJsonOption, type JsonOption } from '../options.js';
import { paintFor } from '../paint.js';
import { formatTable } from '../table.js';

/** `flannelctl lab list`: the labs of this machine. */
export function addLabListCommand(lab: Command, context: CommandContext): void {
  const command = lab
    .command('list')
    .summary('list the labs of this machine')
    .description('Lists the labs of this machine, what is left of a broken one included.');
  addJsonOption(command);
  addExamples(command, [['flannelctl lab list --json | jq -r ".[].name"', 'their names']]);
  command.action(async (options: JsonOption) => {
    const labs = await Promise.all((await Lab.list()).map(describe));
    if (options.json) {
      printJson(context, labs);
    } else if (labs.length === 0) {
      printLines(context.stdout, ['there are no labs; "flannelctl lab up" makes one']);
    } else {
      const rows = labs.map((one) =>
        one.status === undefined
          ? [one.name, 'broken', '', '', '', '']
          : [
              one.name,
              one.status.phase === 'up' && !one.status.healthy ? 'up, not all well' : one.status.phase,
              String(one.status.nodes.length),
              one.status.network,
              one.status.backend,
              one.status.runtime,
            ],
      );
      const titles = ['LAB', 'STATE', 'NODES', 'NETWORK', 'BACKEND', 'RUNTIME'].map((title) => ({ title }));
      printLines(context.stdout, formatTable(titles, rows, paintFor(context.stdout, context.env)));
    }
  });
}

async function describe(name: string): Promise<{ name: string; status?: LabStatus }> {
  try {
    return { name, status: (await Lab.open(name)).status() };
  } catch {
    return { name };
  }
}
