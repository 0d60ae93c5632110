import type { Command } from 'commander';
import { drawLab } from '../../lab/drawing.js';
import { Lab } from '../../lab/lab.js';
import { DEFAULT_LAB_NAME } from '../../lab/plan.js';
import { type CommandContext, printJson, printLines } from '../context.js';
import {
  addLabNameOption,
  addLabShapeOptions,
  interruptible,
  labOptions,
  progressTo,
  reportInterruption,
  type LabShapeOptions,
} from '../lab-options.js';
import { addExamples, addJsonOption, type JsonOption } from '../options.js';

/** How long pods may take to reach each other once every daemon is ready. */
const SETTLE_MS = 8000;

/** `flannelctl lab up`: builds a lab and leaves it running. */
export function addLabUpCommand(lab: Command, context: CommandContext): void {
  const command = lab
    .command('up')
    .summary('build a lab and leave it running')
    .description(
      'Builds a lab and leaves it running. When that fails or is interrupted, what was built is taken down again.',
    );
  addLabShapeOptions(addLabNameOption(command, DEFAULT_LAB_NAME));
  addJsonOption(command);
  addExamples(command, [
    ['flannelctl lab up', 'three nodes with two pods each'],
    ['flannelctl lab up --name docker --nodes 2 --runtime docker', 'containers as pods, a Docker engine a node'],
    ['flannelctl lab up --name mixed --flanneld node2=/usr/local/bin/flanneld', 'a flannel among ours'],
  ]);
  command.action(async (options: LabShapeOptions & JsonOption & { name: string }) => {
    const progress = progressTo(context);
    const wanted = labOptions(options.name, options);
    const built = await interruptible(context, async (signal) => {
      try {
        const up = await Lab.up(wanted, { signal, progress });
        const silent = await up.settle(SETTLE_MS, signal).catch(() => []);
        const pinged = options.nodes > 1 && options.pods > 0;
        if (silent.length === 0 && pinged) progress('pods reach each other across nodes');
        if (silent.length > 0) context.stderr.write(`flannelctl: warning: no answer to a ping: ${silent.join(', ')}\n`);
        return up;
      } catch (error) {
        if (!signal.aborted) throw error;
        reportInterruption(context, options.name);
        return undefined;
      }
    });
    if (built === undefined) return;
    const name = options.name === DEFAULT_LAB_NAME ? '' : ` --name ${options.name}`;
    if (options.json) {
      printJson(context, built.status());
      return;
    }
    const pods = built.plan.nodes.flatMap((node) => node.pods.slice(0, 1));
    const to = pods.length > 1 ? pods[1].name : 'outside';
    printLines(context.stdout, [
      '',
      ...drawLab(built.plan),
      '',
      `Try:   flannelctl lab exec${name} ${pods[0]?.name ?? 'node1'} -- ping -c 3 ${to}`,
      `       flannelctl lab exec${name} node1 -- tcpdump -nn -i ${built.plan.overlayDevice ?? 'eth0'}`,
      `Logs:  flannelctl lab logs${name} node1`,
      `Done:  flannelctl lab down${name}`,
    ]);
  });
}
