import type { Command } from 'commander';
import { type CommandContext, printJson, printLines } from '../context.js';
import { configReport, effectiveConfig, readConfig } from '../network-report.js';
import { addExamples, addJsonOption, type JsonOption } from '../options.js';
import { addStoreOptions, type StoreOptions } from '../store-options.js';
import { storedConfigText } from '../store.js';

/** `flannelctl network show`: the configuration in etcd. */
export function addNetworkShowCommand(network: Command, context: CommandContext): void {
  const command = network
    .command('show')
    .summary('show the configuration in etcd')
    .description(
      'Shows the network configuration that is in etcd, with its defaults filled in; with --raw as it is written there. ' +
        'Fails with the reason when flanneld would refuse it.',
    )
    .option('--raw', 'print it as it is in etcd, right or wrong');
  addStoreOptions(addJsonOption(command));
  addExamples(command, [
    ['flannelctl network show', 'the configuration, defaults included'],
    ['flannelctl network show --raw > net-conf.json', 'take it out to change it'],
  ]);
  command.action(async (options: JsonOption & StoreOptions & { raw?: true }) => {
    const text = await storedConfigText(options, context.env);
    if (options.raw) {
      printLines(context.stdout, [text]);
      return;
    }
    const config = readConfig(text);
    if (options.json) printJson(context, effectiveConfig(config));
    else printLines(context.stdout, configReport(config));
  });
}
