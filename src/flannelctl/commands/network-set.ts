import type { Command } from 'commander';
import { FlannelError } from '../../errors.js';
import { formatPrefix } from '../../packet/address.js';
import { subnetFits } from '../../subnet/allocation.js';
import { backendTypeOf, type Lease } from '../../subnet/lease.js';
import type { NetworkConfig } from '../../subnet/network-config.js';
import { type CommandContext, printJson, printLines } from '../context.js';
import { configReport, effectiveConfig, ignoredKeysWarning, readConfig } from '../network-report.js';
import { readNetworkSource } from '../network-source.js';
import { addExamples, addJsonOption, type JsonOption } from '../options.js';
import { wordHolder } from '../reservation.js';
import { addStoreOptions, type StoreOptions } from '../store-options.js';
import { withStore } from '../store.js';

/** Leases named one by one before the rest is only counted. */
const NAMED_LEASES = 3;

/** `flannelctl network set`: checks a configuration and writes it to etcd. */
export function addNetworkSetCommand(network: Command, context: CommandContext): void {
  const command = network
    .command('set')
    .summary('check a configuration and write it to etcd')
    .description(
      'Checks a network configuration as "network check" does and writes it to etcd as it was given. Refused without ' +
        '--force while leases exist that no longer fit it: their nodes would be given other subnets at their next start. ' +
        'A flanneld that runs keeps what it has read; it takes the new configuration when it is started again.',
    )
    .argument('<configuration>', "a file, '-' for standard input, or the JSON itself")
    .option('--force', 'write it although leases no longer fit');
  addStoreOptions(addJsonOption(command));
  addExamples(command, [
    ['flannelctl network set net-conf.json', 'from a file'],
    ['flannelctl network set \'{"Network": "10.5.0.0/16", "Backend": {"Type": "udp"}}\'', 'inline'],
    ['flannelctl network set - < net-conf.json', 'from standard input'],
  ]);
  command.action(async (argument: string, options: JsonOption & StoreOptions & { force?: true }) => {
    const { text } = await readNetworkSource(argument, context);
    // First: a misspelt key may be why the configuration is refused.
    printLines(context.stderr, ignoredKeysWarning(text));
    const config = readConfig(text);
    await withStore(options, context.env, async (store, signal) => {
      const misfits = (await store.list(signal)).filter((lease) => !fits(config, lease));
      if (misfits.length > 0) {
        const sentence = misfitSentence(misfits);
        if (!options.force) {
          throw new FlannelError('CONFIG', `not written: ${sentence}; --force writes it all the same`);
        }
        printLines(context.stderr, [`flannelctl: warning: ${sentence}`]);
      }
      await store.putNetworkConfig(text, signal);
    });
    if (options.json) printJson(context, effectiveConfig(config));
    else printLines(context.stdout, ['The network configuration is written.', ...configReport(config)]);
  });
}

function fits(config: NetworkConfig, lease: Lease): boolean {
  return subnetFits(config, lease.subnet) && backendTypeOf(lease) === config.backend.type;
}

function misfitSentence(misfits: readonly Lease[]): string {
  const named = misfits.slice(0, NAMED_LEASES).map((lease) => `${formatPrefix(lease.subnet)} ${wordHolder(lease)}`);
  const rest = misfits.length - named.length;
  const list = rest > 0 ? [...named, `and ${rest} more`] : named;
  const noun = misfits.length === 1 ? '1 lease does' : `${misfits.length} leases do`;
  return `${noun} not fit this configuration (${list.join(', ')})`;
}
