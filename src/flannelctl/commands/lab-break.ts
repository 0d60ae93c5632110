import { type Command, InvalidArgumentError } from 'commander';
import { breakLab, FAULT_NAMES, FAULTS, type FaultName } from '../../lab/faults.js';
import { Lab } from '../../lab/lab.js';
import { DEFAULT_LAB_NAME } from '../../lab/plan.js';
import { type CommandContext, printLines } from '../context.js';
import { addLabNameOption } from '../lab-options.js';
import { addExamples } from '../options.js';
import { formatFacts } from '../table.js';

/** Reads the name of a fault. */
export function faultName(text: string): FaultName {
  const found = FAULT_NAMES.find((name) => name === text);
  if (found === undefined) throw new InvalidArgumentError(`expected ${FAULT_NAMES.join(', ')}.`);
  return found;
}

/** `flannelctl lab break`: a known fault, to learn the tools on. */
export function addLabBreakCommand(lab: Command, context: CommandContext): void {
  const command = lab
    .command('break')
    .argument('<fault>', 'what to break, see below', faultName)
    .summary('break something, to see how the tools tell of it')
    .description('Breaks something in a lab, as it breaks in real clusters; "lab heal" takes it away.')
    .option('--node <node>', 'which node it strikes', 'node2')
    .option('--peer <node>', 'with "firewall": only between the node and this one');
  addLabNameOption(command, DEFAULT_LAB_NAME);
  const faults = formatFacts(FAULT_NAMES.map((name) => [`  ${name}`, FAULTS[name].summary]));
  command.addHelpText('after', `\nFaults:\n${faults.join('\n')}`);
  addExamples(command, [
    ['flannelctl lab break mtu', 'large packets to node2 vanish'],
    ['flannelctl lab break firewall --node node2 --peer node1', 'the tunnel between two nodes'],
    ['flannelctl lab exec node1 -- flannelctl doctor', 'and what node1 says about it'],
  ]);
  command.action(async (fault: FaultName, options: { name: string; node: string; peer?: string }) => {
    const { plan } = await Lab.open(options.name);
    const done = await breakLab(plan, fault, options.node, options.peer);
    printLines(context.stdout, [done]);
  });
}
