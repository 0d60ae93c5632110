import type { Command } from 'commander';
import type { CommandContext } from '../context.js';
import { addExamples } from '../options.js';
import { addNetworkCheckCommand } from './network-check.js';
import { addNetworkSetCommand } from './network-set.js';
import { addNetworkShowCommand } from './network-show.js';

/** `flannelctl network`: the configuration that all nodes share. */
export function addNetworkCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('network')
    .helpCommand(false)
    .usage('show | check [FILE] | set FILE')
    .summary('show, check and write the network configuration')
    .description(
      'Works on the network configuration that all nodes share (PREFIX/config in etcd), reading it with the code that ' +
        'flanneld reads it with.',
    );
  addExamples(command, [
    ['flannelctl network show', 'what is in etcd, with its defaults filled in'],
    ['flannelctl network check net-conf.json', 'would flanneld take this file?'],
    ['flannelctl network set net-conf.json', 'check it, then write it to etcd'],
  ]);
  addNetworkShowCommand(command, context);
  addNetworkCheckCommand(command, context);
  addNetworkSetCommand(command, context);
}
