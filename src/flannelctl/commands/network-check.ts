import type { Command } from 'commander';
import { type CommandContext, printJson, printLines } from '../context.js';
import { readNetworkSource } from '../network-source.js';
import { configReport, effectiveConfig, ignoredKeysWarning, readConfig } from '../network-report.js';
import { addExamples, addJsonOption, type JsonOption } from '../options.js';
import { addStoreOptions, type StoreOptions } from '../store-options.js';
import { storedConfigText } from '../store.js';

/** `flannelctl network check`: would flanneld take this configuration? */
export function addNetworkCheckCommand(network: Command, context: CommandContext): void {
  const command = network
    .command('check')
    .summary('say whether flanneld would take a configuration')
    .description(
      'Reads a network configuration with the code that flanneld reads it with. A good one is printed with its defaults ' +
        'filled in; a bad one is refused with the line that flanneld would log, and exit status 1. Keys that nothing ' +
        'reads, such as misspelt ones, are warned about.',
    )
    .argument('[configuration]', "a file, '-' for standard input, or the JSON itself; without it, what is in etcd");
  addStoreOptions(addJsonOption(command));
  addExamples(command, [
    ['flannelctl network check net-conf.json', 'a file'],
    ['flannelctl network check \'{"Network": "10.5.0.0/16"}\'', 'what defaults would this have?'],
    ['flannelctl network check', 'what is in etcd now'],
  ]);
  command.action(async (argument: string | undefined, options: JsonOption & StoreOptions) => {
    const text =
      argument === undefined
        ? await storedConfigText(options, context.env)
        : (await readNetworkSource(argument, context)).text;
    // First: a misspelt key may be why the configuration is refused.
    printLines(context.stderr, ignoredKeysWarning(text));
    const config = readConfig(text);
    if (options.json) printJson(context, effectiveConfig(config));
    else printLines(context.stdout, configReport(config));
  });
}
