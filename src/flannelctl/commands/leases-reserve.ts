import type { Command } from 'commander';
import { formatIpv4, formatPrefix } from '../../packet/address.js';
import { type CommandContext, printJson, printLines } from '../context.js';
import { readConfig } from '../network-report.js';
import { addExamples, addJsonOption, type JsonOption } from '../options.js';
import { leaseAnswer } from '../lease-table.js';
import { checkReservation, readOwner, readSubnet } from '../reservation.js';
import { addStoreOptions, type StoreOptions } from '../store-options.js';
import { storedConfigText, withStore } from '../store.js';

/** `flannelctl leases reserve SUBNET --for IP`: a lease that never expires. */
export function addLeasesReserveCommand(leases: Command, context: CommandContext): void {
  const command = leases
    .command('reserve')
    .summary('keep a subnet for a node, for good')
    .description(
      'Writes a reservation into etcd: a lease that never expires. The node with that public IP is given the subnet at its ' +
        'next start, and keeps it. A lease that the same node holds on the same subnet becomes the reservation. Refused ' +
        'where the subnet does not fit the network configuration, overlaps what another node has, or the node has another.',
    )
    .argument('<subnet>', 'the subnet, such as 10.5.34.0/24')
    .requiredOption('--for <ip>', 'public IP of the node that it is kept for (required)');
  addStoreOptions(addJsonOption(command));
  addExamples(command, [
    ['flannelctl leases reserve 10.5.34.0/24 --for 192.0.2.1', 'node 192.0.2.1 gets 10.5.34.0/24 from now on'],
  ]);
  command.action(async (subnetText: string, options: { for: string } & JsonOption & StoreOptions) => {
    const subnet = readSubnet(subnetText);
    const publicIp = readOwner(options.for);
    const config = readConfig(await storedConfigText(options, context.env));
    const lease = await withStore(options, context.env, async (store, signal) => {
      checkReservation(config, await store.list(signal), subnet, publicIp);
      return store.reserve(subnet, publicIp, signal);
    });
    if (options.json) printJson(context, leaseAnswer(lease));
    else printLines(context.stdout, [`${formatPrefix(subnet)} is reserved for ${formatIpv4(publicIp)}`]);
  });
}
