import type { Command } from 'commander';
import { UsageError } from '../../errors.js';
import { Lab } from '../../lab/lab.js';
import { DEFAULT_LAB_NAME } from '../../lab/plan.js';
import type { CommandContext } from '../context.js';
import { addLabNameOption } from '../lab-options.js';
import { addExamples } from '../options.js';
import { runForeground } from '../foreground.js';

/** `flannelctl lab exec`: runs a program in a machine or pod of a lab. */
export function addLabExecCommand(lab: Command, context: CommandContext): void {
  const command = lab
    .command('exec')
    .argument('<place>', 'a node, a pod, outside, etcd or underlay')
    .argument('<command...>', 'the program and its arguments, after --')
    .summary('run a program in a machine or pod of a lab')
    .description(
      'Runs a program in a machine or pod of a lab, where the names of all of them resolve, and exits with its status. ' +
        "On a node, flannelctl and docker find that node's own daemons.",
    )
    .passThroughOptions();
  addLabNameOption(command, DEFAULT_LAB_NAME);
  addExamples(command, [
    ['flannelctl lab exec pod1a -- ping -c 3 pod2a', 'from a pod to a pod on another node'],
    ['flannelctl lab exec node1 -- flannelctl status', "what node1's flanneld is doing"],
    ['flannelctl lab exec node2 -- tcpdump -nn -i flannel0', 'watch the overlay'],
    ['flannelctl lab exec --name blue node1 -- bash', 'a shell on a node of another lab'],
  ]);
  command.action(async (place: string, words: string[], options: { name: string }) => {
    // The separator itself comes through as a word, since what follows the place is not looked at.
    const [program, ...args] = words[0] === '--' ? words.slice(1) : words;
    if (program === undefined) throw new UsageError(`lab exec ${place}: expected a program after --`);
    const opened = await Lab.open(options.name);
    const terminal = process.stdin.isTTY && process.stdout.isTTY;
    const { command: entering, args: all, environment } = opened.enter(place, program, args, terminal);
    context.exitCode = await runForeground(context, entering, all, environment);
  });
}
