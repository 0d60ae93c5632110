import type { Command } from 'commander';
import { Lab } from '../../lab/lab.js';
import { DEFAULT_LAB_NAME } from '../../lab/plan.js';
import { type CommandContext, printLines } from '../context.js';
import { addLabNameOption } from '../lab-options.js';
import { addExamples } from '../options.js';

/** `flannelctl lab restart`: what becomes of the traffic when a node's agent goes and comes back. */
export function addLabRestartCommand(lab: Command, context: CommandContext): void {
  const command = lab
    .command('restart')
    .argument('<node>', 'the node')
    .summary("end a node's flanneld and start it again")
    .description("Ends a node's flanneld, if it runs, starts it again and waits until it is ready.");
  addLabNameOption(command, DEFAULT_LAB_NAME).option('--kill', 'end it as a crash would, with SIGKILL');
  addExamples(command, [
    ['flannelctl lab restart node2', 'a clean stop and a start'],
    ['flannelctl lab restart --kill node2', 'a crash; the node keeps its subnet all the same'],
  ]);
  command.action(async (node: string, options: { name: string; kill?: true }) => {
    const opened = await Lab.open(options.name);
    await opened.restartFlanneld(node, options.kill ? 'SIGKILL' : 'SIGTERM');
    const pid = opened.status().nodes.find((one) => one.name === node)?.flanneld.pid;
    printLines(context.stdout, [`flanneld on ${node} is ready again, pid ${pid ?? 'unknown'}`]);
  });
}
