import type { Command } from 'commander';
import { UsageError } from '../../errors.js';
import { Lab } from '../../lab/lab.js';
import { DEFAULT_LAB_NAME } from '../../lab/plan.js';
import { type CommandContext, printLines } from '../context.js';
import { progressTo } from '../lab-options.js';
import { addExamples } from '../options.js';

/** `flannelctl lab down`: takes a lab down, whatever state it is in. */
export function addLabDownCommand(lab: Command, context: CommandContext): void {
  const command = lab
    .command('down')
    .summary('take a lab down')
    .description(
      'Ends everything that runs in a lab and removes its namespaces and files, also when building it was killed half ' +
        'way, and says which lab it was. Where there are several, it has to be told which. Exits 0 when there is no such ' +
        'lab.',
    );
  command
    .option(
      '--name <name>',
      `which lab: several may live side by side (default: "${DEFAULT_LAB_NAME}", if it is the only one)`,
    )
    .option('--all', 'every lab of this machine');
  addExamples(command, [
    ['flannelctl lab down', 'the lab of the default name'],
    ['flannelctl lab down --name blue', 'one of several'],
    ['flannelctl lab down --all', 'every lab'],
  ]);
  command.action(async (options: { name?: string; all?: true }) => {
    const names = options.all ? await Lab.list() : [options.name ?? (await defaultLab())];
    for (const name of names) {
      const gone = await Lab.down(name, progressTo(context));
      const others = gone ? [] : await Lab.list();
      const absent = `there is no lab "${name}"${others.length > 0 ? `: there is ${others.join(', ')}` : ''}`;
      printLines(context.stdout, [gone ? `lab "${name}" is gone` : absent]);
    }
    if (names.length === 0) printLines(context.stdout, ['there are no labs']);
  });
}

/** The lab that is meant when none is named. @throws UsageError when there are several: it might be another's */
async function defaultLab(): Promise<string> {
  const names = await Lab.list();
  if (names.length > 1) {
    throw new UsageError(`there are several labs: ${names.join(', ')}; say which with --name, or --all for every one`);
  }
  return DEFAULT_LAB_NAME;
}
