import type { Command } from 'commander';
import { UsageError } from '../../errors.js';
import { type CommandContext, printJson, printLines } from '../context.js';
import { ControlClient } from '../control-client.js';
import { leaseAnswer, leaseTable } from '../lease-table.js';
import { addDaemonOptions, addExamples, addJsonOption, type DaemonOptions, type JsonOption } from '../options.js';
import { paintFor } from '../paint.js';
import { addStoreOptions, type StoreOptions } from '../store-options.js';
import { withStore } from '../store.js';
import { addLeasesReleaseCommand } from './leases-release.js';
import { addLeasesReserveCommand } from './leases-reserve.js';

/** `flannelctl leases`: who owns which subnet; `reserve` and `release` below it. */
export function addLeasesCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('leases')
    .usage('[options] | reserve SUBNET --for IP | release SUBNET')
    .summary('list the leases; reserve and release subnets')
    .description(
      "Lists which node owns which subnet, as the table of the running flanneld has it. The expiry of other nodes' leases " +
        'is not known to it; with --from-store etcd is asked instead, which needs no daemon and tells every expiry.',
    )
    .argument('[words...]')
    .option('--from-store', 'ask etcd instead of the daemon');
  addStoreOptions(addDaemonOptions(addJsonOption(command), context));
  addExamples(command, [
    ['flannelctl leases', 'all leases; this node\'s own is marked with "*"'],
    ["flannelctl leases --json | jq -r '.[].publicIP'", "every node's address"],
    ['flannelctl leases --from-store --etcd-endpoints http://192.0.2.10:2379', 'from a machine without a flanneld'],
  ]);
  command.action(async (words: string[], options: DaemonOptions & JsonOption & StoreOptions & { fromStore?: true }) => {
    if (words.length > 0) {
      throw new UsageError(`unknown command 'leases ${words[0]}': expected reserve or release, or nothing to list`);
    }
    const leases = options.fromStore
      ? await withStore(options, context.env, async (store, signal) => (await store.list(signal)).map(leaseAnswer))
      : await new ControlClient(options.socket).leases();
    if (options.json) printJson(context, leases);
    else printLines(context.stdout, leaseTable(leases, paintFor(context.stdout, context.env), Date.now()));
  });
  addLeasesReserveCommand(command, context);
  addLeasesReleaseCommand(command, context);
}
