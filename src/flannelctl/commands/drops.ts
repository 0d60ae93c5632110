import { setTimeout as sleep } from 'node:timers/promises';
import { Option, type Command } from 'commander';
import { dropLines, dropSample, type DropLine, type DropSample } from '../../debug/drops.js';
import { FlannelError } from '../../errors.js';
import { type CommandContext, printJson, printLines } from '../context.js';
import { ControlClient } from '../control-client.js';
import { addDaemonOptions, addExamples, addJsonOption, type DaemonOptions, type JsonOption } from '../options.js';
import { duration } from '../packet-options.js';
import { paintFor, type Paint } from '../paint.js';
import { formatTable } from '../table.js';
import { showInPlace } from '../terminal.js';
import { wordCount, wordDuration } from '../wording.js';

interface DropsOptions extends DaemonOptions, JsonOption {
  readonly watch?: true;
  /** Milliseconds. */
  readonly interval: number;
}

/** `flannelctl drops`: what the dataplane drops, and what to do about it. */
export function addDropsCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('drops')
    .summary('show what is dropped, how fast, and what to do about it')
    .description(
      'Looks at the counters of the dataplane twice and shows, for each direction and reason, how many packets were ' +
        'dropped since the start of flanneld, how many a second are now, what to do, and the last of them. With --watch it goes on; with ' +
        '--json as well, it prints an object a line.',
    )
    .option('--watch', 'go on until it is interrupted')
    .addOption(new Option('--interval <time>', 'time between two looks').argParser(duration).default(1000, '1s'));
  addDaemonOptions(addJsonOption(command), context);
  addExamples(command, [
    ['flannelctl drops', 'what is dropped just now'],
    ['flannelctl drops --watch', 'while something is tried'],
    ["flannelctl drops --json | jq '.drops[] | {reason, total}'", 'for a script'],
  ]);
  command.action(async (options: DropsOptions) => {
    const client = new ControlClient(options.socket);
    const paint = paintFor(context.stdout, context.env);
    for (let before = await look(client); ;) {
      await sleep(options.interval);
      const after = await look(client);
      const lines = dropLines(before, after);
      const seconds = Math.round(after.atMs - before.atMs) / 1000;
      if (options.json && options.watch) context.stdout.write(`${JSON.stringify(answer(lines, seconds))}\n`);
      else if (options.json) printJson(context, answer(lines, seconds));
      else {
        const show = options.watch && context.stdout.isTTY === true ? showInPlace : printLines;
        show(context.stdout, dropTable(lines, paint));
      }
      if (!options.watch) return;
      before = after;
    }
  });
}

function answer(lines: readonly DropLine[], intervalSeconds: number): object {
  return { time: new Date().toISOString(), intervalSeconds, drops: lines };
}

async function look(client: ControlClient): Promise<DropSample> {
  const { backend, state } = await client.status();
  if (backend === undefined) {
    throw new FlannelError('CONTROL', `no packets flow yet, the agent is at "${state}": see flannelctl status`);
  }
  return dropSample(backend, performance.now());
}

function dropTable(lines: readonly DropLine[], paint: Paint): string[] {
  if (lines.length === 0) return ['nothing has been dropped'];
  const rows = lines.map(({ direction, reason, total, perSecond, remedy }) => [
    direction,
    reason,
    wordCount(total),
    perSecond === 0 ? '0' : perSecond.toFixed(perSecond < 10 ? 1 : 0),
    remedy,
  ]);
  const [titles, ...table] = formatTable(
    [
      { title: 'DROPPED' },
      { title: 'REASON' },
      { title: 'TOTAL', align: 'right' },
      { title: 'PER SECOND', align: 'right' },
      { title: 'WHAT TO DO' },
    ],
    rows,
    paint,
    (_row, column, text) => (column === 3 && text !== '0' ? paint.warning(text) : text),
  );
  return [titles, ...table.flatMap((row, index) => [row, ...lastPacket(lines[index], paint)])];
}

/** Below a row, the last packet that it counts. */
function lastPacket({ last }: DropLine, paint: Paint): string[] {
  if (last === null) return [];
  return [paint.faint(`  last ${wordDuration(last.ageSeconds * 1000)} ago: ${last.text}`)];
}
