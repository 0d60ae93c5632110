import { type Command, InvalidArgumentError, Option } from 'commander';
import { UsageError } from '../../errors.js';
import type { MeshProbeAnswer, PacketProbeAnswer, PacketProbeRequest } from '../../observe/probe-protocol.js';
import {
  MAX_PROBE_BYTES,
  MAX_PROBE_PACKETS,
  MAX_PROBE_TIMEOUT_MS,
  MIN_PROBE_BYTES,
} from '../../observe/probe-request.js';
import { parseIpv4 } from '../../packet/address.js';
import { type CommandContext, printJson, printLines } from '../context.js';
import { ControlClient } from '../control-client.js';
import {
  addDaemonOptions,
  addExamples,
  addJsonOption,
  wholeNumber,
  type DaemonOptions,
  type JsonOption,
} from '../options.js';
import { paintFor } from '../paint.js';
import { meshReport, probeReport } from '../probe-report.js';

interface ProbeOptions extends DaemonOptions, JsonOption {
  readonly from?: string;
  readonly protocol?: PacketProbeRequest['protocol'];
  readonly port?: number;
  readonly size?: number;
  readonly df?: true;
  readonly count?: number;
  readonly timeout?: number;
  readonly mesh?: true;
}

const PACKET_TIMEOUT_SECONDS = 4;
const MESH_TIMEOUT_SECONDS = 30;
const DEFAULT_SIZE = 84;
/** Options that say something of a packet, which a mesh has none of. */
const PACKET_OPTIONS = ['from', 'protocol', 'port', 'size', 'df', 'count'] as const;

/** `flannelctl probe`: does it work from here to there, and if not, which step ate it? */
export function addProbeCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('probe')
    .argument('[destination]', 'the address of a pod on another node')
    .summary('send a packet through the overlay and follow it from node to node')
    .description(
      "Sends a real packet with a pod's source through this host's routing into the overlay and follows it: the agents on " +
        'its way are told by etcd to look out for it, and report where they saw it and its answer. Says hop by hop how far it ' +
        "got, and what most likely became of it. The pod bridge and this side's FORWARD rules are not on its way: for those, " +
        'see explain. With --mesh every agent measures its ways to every other node instead. Exits 0 when every packet was ' +
        'answered (every two nodes reach each other), else 1.',
    )
    .option('--from <pod-ip>', "source: of this node's lease, or this host's own (default: this host's in the lease)")
    .addOption(new Option('--protocol <name>', 'what to send (default: icmp)').choices(['icmp', 'udp', 'tcp']))
    .option('--port <number>', 'destination port (default: 33434 for udp, 80 for tcp)', wholeNumber(1, 65_535))
    .option(
      '--size <bytes>',
      'length of the packet, IP header included (default: 84)',
      wholeNumber(28, MAX_PROBE_BYTES),
    )
    .option('--df', 'the packet must not be fragmented')
    .option('--count <packets>', 'how many (default: 1)', wholeNumber(1, MAX_PROBE_PACKETS))
    .option('--timeout <seconds>', 'wait so long for an answer (default: 4; with --mesh 30, for all)', seconds)
    .option('--mesh', 'measure every node with every node');
  addDaemonOptions(addJsonOption(command), context);
  addExamples(command, [
    ['flannelctl probe 10.5.2.3', 'does a packet get to that pod, and the answer back?'],
    ['flannelctl probe 10.5.2.3 --protocol tcp --port 80', 'a SYN to a port'],
    ['flannelctl probe 10.5.2.3 --from 10.5.1.7 --count 20', 'as if a certain pod had sent it'],
    ['flannelctl probe 10.5.2.3 --size 1472 --df', 'does the largest fit?'],
    ['flannelctl probe --mesh', 'latency, loss and path MTU of every node to every other'],
  ]);
  command.action(async (destination: string | undefined, options: ProbeOptions) => {
    const client = new ControlClient(options.socket);
    const paint = paintFor(context.stdout, context.env);
    const answer = options.mesh
      ? await mesh(client, destination, options)
      : await packets(client, destination, options);
    if (options.json) printJson(context, answer);
    else printLines(context.stdout, 'hops' in answer ? probeReport(answer, paint) : meshReport(answer, paint));
    if (!answer.reached) context.exitCode = 1;
  });
}

function packets(
  client: ControlClient,
  destination: string | undefined,
  options: ProbeOptions,
): Promise<PacketProbeAnswer> {
  if (destination === undefined)
    throw new UsageError("expected the address of a pod, or --mesh; see 'flannelctl probe --help'");
  const { from, protocol = 'icmp', port, count = 1, timeout = PACKET_TIMEOUT_SECONDS, df } = options;
  if (port !== undefined && protocol === 'icmp') throw new UsageError('--port needs --protocol tcp or udp');
  const size = options.size ?? DEFAULT_SIZE;
  if (size < MIN_PROBE_BYTES[protocol]) {
    throw new UsageError(`--size ${size}: a packet of ${protocol} has at least ${MIN_PROBE_BYTES[protocol]} bytes`);
  }
  return client.probe({
    kind: 'packet',
    destination: address('destination', destination),
    ...(from === undefined ? {} : { source: address('--from', from) }),
    protocol,
    ...(port === undefined ? {} : { port }),
    sizeBytes: size,
    dontFragment: df === true,
    count,
    timeoutMs: timeout * 1000,
  });
}

function mesh(client: ControlClient, destination: string | undefined, options: ProbeOptions): Promise<MeshProbeAnswer> {
  if (destination !== undefined)
    throw new UsageError(`--mesh asks every node: it takes no destination '${destination}'`);
  const given = PACKET_OPTIONS.find((name) => options[name] !== undefined);
  if (given !== undefined) throw new UsageError(`--${given} does not go with --mesh`);
  return client.probe({ kind: 'mesh', timeoutMs: (options.timeout ?? MESH_TIMEOUT_SECONDS) * 1000 });
}

function address(what: string, text: string): string {
  if (parseIpv4(text) === undefined) throw new UsageError(`${what} '${text}': expected an IPv4 address`);
  return text;
}

function seconds(text: string): number {
  const value = Number(text);
  if (!/^\d{1,2}(\.\d{1,3})?$/.test(text) || value <= 0 || value * 1000 > MAX_PROBE_TIMEOUT_MS) {
    throw new InvalidArgumentError(`expected seconds, more than 0 and up to ${MAX_PROBE_TIMEOUT_MS / 1000}.`);
  }
  return value;
}
