import type { Command } from 'commander';
import { requireRoot } from '../../lab/requirements.js';
import type { CommandContext } from '../context.js';
import { addExamples } from '../options.js';
import { addLabBreakCommand } from './lab-break.js';
import { addLabDemoCommand } from './lab-demo.js';
import { addLabDownCommand } from './lab-down.js';
import { addLabExecCommand } from './lab-exec.js';
import { addLabHealCommand } from './lab-heal.js';
import { addLabListCommand } from './lab-list.js';
import { addLabLogsCommand } from './lab-logs.js';
import { addLabRestartCommand } from './lab-restart.js';
import { addLabStatusCommand } from './lab-status.js';
import { addLabUpCommand } from './lab-up.js';

/** `flannelctl lab`: several nodes on one machine, to try things on. */
export function addLabCommand(program: Command, context: CommandContext): void {
  const lab = program
    .command('lab')
    .helpCommand(false)
    .usage('demo | up | status | exec | logs | restart | break | heal | list | down')
    .summary('several nodes on this machine, to try things on')
    .description(
      'Builds a small cluster out of network namespaces: an underlay, nodes with a flanneld each, pods behind a bridge ' +
        "on every node, a real etcd, and a host outside. It touches nothing of this machine's own network. Needs root.",
    );
  addExamples(lab, [
    ['flannelctl lab demo', 'see it all in half a minute'],
    ['flannelctl lab up', 'build a lab that stays'],
    ['flannelctl lab exec pod1a -- ping -c 3 pod2a', 'and use it'],
  ]);
  // Whoever may not look into a lab's folder and processes would take it for a broken one.
  lab.hook('preAction', requireRoot);
  addLabDemoCommand(lab, context);
  addLabUpCommand(lab, context);
  addLabStatusCommand(lab, context);
  addLabExecCommand(lab, context);
  addLabLogsCommand(lab, context);
  addLabRestartCommand(lab, context);
  addLabBreakCommand(lab, context);
  addLabHealCommand(lab, context);
  addLabListCommand(lab, context);
  addLabDownCommand(lab, context);
}
