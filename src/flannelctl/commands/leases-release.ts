import type { Command } from 'commander';
import { formatPrefix } from '../../packet/address.js';
import { type CommandContext, printJson, printLines } from '../context.js';
import { addExamples, addJsonOption, type JsonOption } from '../options.js';
import { leaseAnswer } from '../lease-table.js';
import { readSubnet, wordHolder } from '../reservation.js';
import { addStoreOptions, type StoreOptions } from '../store-options.js';
import { withStore } from '../store.js';

/** `flannelctl leases release SUBNET`: takes a lease or reservation out of the store. */
export function addLeasesReleaseCommand(leases: Command, context: CommandContext): void {
  const command = leases
    .command('release')
    .summary('remove a lease or a reservation')
    .description(
      'Removes a reservation, or the lease of a node that is gone, from etcd: the subnet is free at once. The daemon of a ' +
        'node that still runs takes its subnet again.',
    )
    .argument('<subnet>', 'the subnet, such as 10.5.34.0/24');
  addStoreOptions(addJsonOption(command));
  addExamples(command, [['flannelctl leases release 10.5.34.0/24', 'give 10.5.34.0/24 back to the network']]);
  command.action(async (subnetText: string, options: JsonOption & StoreOptions) => {
    const subnet = readSubnet(subnetText);
    const name = formatPrefix(subnet);
    const released = await withStore(options, context.env, (store, signal) => store.release(subnet, signal));
    if (options.json) {
      printJson(context, released === undefined ? { subnet: name } : { ...leaseAnswer(released), expires: null });
    } else {
      const before = released === undefined ? 'what stood there was no lease' : `it ${wordHolder(released, 'was')}`;
      printLines(context.stdout, [`${name} is free; ${before}`]);
    }
  });
}
