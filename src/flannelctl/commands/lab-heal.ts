import type { Command } from 'commander';
import { type FaultName, healLab } from '../../lab/faults.js';
import { Lab } from '../../lab/lab.js';
import { DEFAULT_LAB_NAME } from '../../lab/plan.js';
import { type CommandContext, printLines } from '../context.js';
import { addLabNameOption } from '../lab-options.js';
import { addExamples } from '../options.js';
import { faultName } from './lab-break.js';

/** `flannelctl lab heal`: takes away what `lab break` did. */
export function addLabHealCommand(lab: Command, context: CommandContext): void {
  const command = lab
    .command('heal')
    .argument('[fault]', 'one fault; without it, all of them', faultName)
    .summary('take away what "lab break" did')
    .description('Takes faults away from every node of a lab. A fault that is not there is no error.');
  addLabNameOption(command, DEFAULT_LAB_NAME);
  addExamples(command, [
    ['flannelctl lab heal', 'everything'],
    ['flannelctl lab heal mtu', 'one fault'],
  ]);
  command.action(async (fault: FaultName | undefined, options: { name: string }) => {
    const { plan } = await Lab.open(options.name);
    await healLab(plan, fault);
    printLines(context.stdout, [fault === undefined ? 'all faults are gone' : `the fault "${fault}" is gone`]);
  });
}
