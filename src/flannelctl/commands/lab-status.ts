import type { Command } from 'commander';
import { drawLab } from '../../lab/drawing.js';
import { activeFaults } from '../../lab/faults.js';
import { Lab } from '../../lab/lab.js';
import { DEFAULT_LAB_NAME } from '../../lab/plan.js';
import { type CommandContext, printJson, printLines } from '../context.js';
import { addLabNameOption } from '../lab-options.js';
import { addExamples, addJsonOption, type JsonOption } from '../options.js';
import { paintFor } from '../paint.js';
import { formatFacts, formatTable } from '../table.js';

/** `flannelctl lab status`: what a lab consists of, and what of it runs. */
export function addLabStatusCommand(lab: Command, context: CommandContext): void {
  const command = lab
    .command('status')
    .summary('show a lab: its machines, addresses and daemons')
    .description(
      'Draws a lab and shows what of it runs, and which faults are in it. Exits 0 when there is such a lab, whatever its state; a script reads ' +
        '"healthy" of the JSON.',
    );
  addJsonOption(addLabNameOption(command, DEFAULT_LAB_NAME));
  addExamples(command, [
    ['flannelctl lab status', 'the lab of the default name'],
    ["flannelctl lab status --json | jq -e '.healthy'", 'succeeds when everything runs'],
  ]);
  command.action(async (options: { name: string } & JsonOption) => {
    const opened = await Lab.open(options.name);
    const status = opened.status();
    const faults = await activeFaults(opened.plan);
    if (options.json) {
      printJson(context, { ...status, faults });
      return;
    }
    const paint = paintFor(context.stdout, context.env);
    const verdict = { up: 'up', starting: 'being brought up', broken: 'broken: only "lab down" helps' }[status.phase];
    const state = status.healthy
      ? paint.good(verdict)
      : paint.bad(status.phase === 'up' ? 'up, not all well' : verdict);
    const running = (one: { running: boolean; pid: number | null }) => (one.running ? `pid ${one.pid}` : 'not running');
    const rows = status.nodes.map((node) => [
      node.name,
      node.address,
      node.subnet,
      running(node.flanneld),
      node.flanneld.program,
      node.controlSocket ?? 'none',
    ]);
    const titles = ['NODE', 'ADDRESS', 'SUBNET', 'FLANNELD', 'PROGRAM', 'CONTROL SOCKET'].map((title) => ({ title }));
    printLines(context.stdout, [
      ...drawLab(opened.plan),
      '',
      ...formatFacts([
        ['lab', `${status.name}, ${state}`],
        ['network', `${status.network}, backend ${status.backend}, pods by ${status.runtime}`],
        ['etcd', `${status.etcd.endpoint}, ${running(status.etcd)}`],
        ['files', status.folder],
        ...faults.map(({ fault, summary }): [string, string] => ['fault', paint.bad(`${fault}: ${summary}`)]),
      ]),
      '',
      ...formatTable(titles, rows, paint, (_row, column, text) =>
        column === 3 && text === 'not running' ? paint.bad(text) : text,
      ),
    ]);
  });
}
