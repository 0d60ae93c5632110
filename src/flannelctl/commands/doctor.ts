import { type Command, InvalidArgumentError } from 'commander';
import { examine } from '../../debug/doctor/doctor.js';
import { gatherFacts } from '../../debug/doctor/gather.js';
import type { StatusAnswer } from '../../observe/control-protocol.js';
import type { EtcdOptions } from '../../subnet/etcd/options.js';
import { type CommandContext, printJson, printLines } from '../context.js';
import { ControlClient } from '../control-client.js';
import { doctorReport } from '../doctor-report.js';
import { addDaemonOptions, addExamples, addJsonOption, type DaemonOptions, type JsonOption } from '../options.js';
import { paintFor } from '../paint.js';
import { addStoreOptions, storeSettings, storeVariable, type StoreOptions } from '../store-options.js';

interface DoctorOptions extends DaemonOptions, JsonOption, StoreOptions {
  readonly peers: number;
}

/** `flannelctl doctor`: what is wrong with this node. */
export function addDoctorCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('doctor')
    .summary('say what is wrong with this node')
    .description(
      'Looks at the agent, its lease, the overlay device, routes, kernel settings, firewall rules and etcd, and sends ' +
        'echo requests to the other nodes, over the underlay and through the tunnel. Each check says what it found and ' +
        'what to do. It changes nothing. etcd is asked where the agent asks it, unless an option or variable says ' +
        'otherwise; give the TLS files and password that the agent has. Needs root. Exits 1 when a check fails.',
    )
    .option('--peers <count>', 'how many other nodes to ask, at most', peerCount, 64);
  addStoreOptions(addDaemonOptions(addJsonOption(command), context));
  addExamples(command, [
    ['flannelctl doctor', 'all checks of this node'],
    ['flannelctl doctor --json | jq -r \'.checks[] | select(.status == "fail") | .id\'', 'what fails, for a script'],
  ]);
  command.action(async (options: DoctorOptions) => {
    const facts = await gatherFacts({
      agent: new ControlClient(options.socket),
      etcd: (status) => etcdOf(options, context.env, status),
      maxPeers: options.peers,
    });
    const checks = examine(facts);
    if (options.json) printJson(context, { checks });
    else printLines(context.stdout, doctorReport(checks, paintFor(context.stdout, context.env)));
    if (checks.some(({ status }) => status === 'fail')) context.exitCode = 1;
  });
}

/** Where etcd is: as the operator says, else as the agent knows, else flanneld's defaults. */
function etcdOf(options: DoctorOptions, env: CommandContext['env'], status: StatusAnswer | undefined): EtcdOptions {
  const settings = storeSettings(options, env);
  const said = (value: string | undefined, flag: string): boolean => Boolean(value || env[storeVariable(flag)]);
  return {
    ...settings,
    endpoints: said(options.etcdEndpoints, 'etcd-endpoints')
      ? settings.endpoints
      : (status?.store.endpoints ?? settings.endpoints),
    prefix: said(options.etcdPrefix, 'etcd-prefix') ? settings.prefix : (status?.store.prefix ?? settings.prefix),
  };
}

function peerCount(text: string): number {
  if (!/^\d{1,5}$/.test(text)) throw new InvalidArgumentError('expected a whole number from 0 to 99999.');
  return Number(text);
}
