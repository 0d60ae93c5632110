import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { type FaultName, healLab } from '../../lab/faults.js';
import { nodeFiles } from '../../lab/daemon.js';
import { Lab } from '../../lab/lab.js';
import { DEFAULT_LAB_NAME, type LabPlan } from '../../lab/plan.js';
import { type CommandContext, printLines } from '../context.js';
import { addLabNameOption } from '../lab-options.js';
import { addExamples } from '../options.js';
import { ControlClient } from '../control-client.js';
import { faultName } from './lab-break.js';

/** An agent that was given its subnet back starts its backend again. */
const SETTLE_MS = 30_000;
const POLL_MS = 50;

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
    await untilSettled(plan);
    printLines(context.stdout, [fault === undefined ? 'all faults are gone' : `the fault "${fault}" is gone`]);
  });
}

/** Waits until every agent that answers is at work again; whether it is well, `flannelctl doctor` tells. */
async function untilSettled({ name, nodes }: LabPlan): Promise<void> {
  const deadline = Date.now() + SETTLE_MS;
  const ours = nodes.filter(({ flanneld }) => flanneld === null);
  await Promise.all(
    ours.map(async (node) => {
      const client = new ControlClient(nodeFiles(name, node.name).controlSocket);
      const atWork = () =>
        client.status().then(
          ({ state }) => state === 'ready',
          () => true,
        );
      while (!(await atWork()) && Date.now() < deadline) await sleep(POLL_MS);
    }),
  );
}
