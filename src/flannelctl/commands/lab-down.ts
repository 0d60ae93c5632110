import type { Command } from 'commander';
import { Lab } from '../../lab/lab.js';
import { DEFAULT_LAB_NAME } from '../../lab/plan.js';
import { type CommandContext, printLines } from '../context.js';
import { addLabNameOption, progressTo } from '../lab-options.js';
import { addExamples } from '../options.js';

/** `flannelctl lab down`: takes a lab down, whatever state it is in. */
export function addLabDownCommand(lab: Command, context: CommandContext): void {
  const command = lab
    .command('down')
    .summary('take a lab down')
    .description(
      'Ends everything that runs in a lab and removes its namespaces and files, also when building it was killed half ' +
        'way. Exits 0 when there is no such lab.',
    );
  addLabNameOption(command, DEFAULT_LAB_NAME).option('--all', 'every lab of this machine');
  addExamples(command, [
    ['flannelctl lab down', 'the lab of the default name'],
    ['flannelctl lab down --all', 'every lab'],
  ]);
  command.action(async (options: { name: string; all?: true }) => {
    const names = options.all ? await Lab.list() : [options.name];
    for (const name of names) {
      const gone = await Lab.down(name, progressTo(context));
      const others = gone ? [] : await Lab.list();
      const absent = `there is no lab "${name}"${others.length > 0 ? `: there is ${others.join(', ')}` : ''}`;
      printLines(context.stdout, [gone ? `lab "${name}" is gone` : absent]);
    }
    if (names.length === 0) printLines(context.stdout, ['there are no labs']);
  });
}
