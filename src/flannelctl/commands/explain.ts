import { type Command, InvalidArgumentError, Option } from 'commander';
import { explainPacket } from '../../debug/explain/explain.js';
import { ThisHost } from '../../debug/explain/host-view.js';
import type { PacketSpec } from '../../debug/explain/packet-spec.js';
import { UsageError } from '../../errors.js';
import { parseIpv4 } from '../../packet/address.js';
import { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, protocolNumber } from '../../packet/ipv4.js';
import { type CommandContext, printJson, printLines } from '../context.js';
import { ControlClient } from '../control-client.js';
import { explainReport } from '../explain-report.js';
import {
  addDaemonOptions,
  addExamples,
  addJsonOption,
  wholeNumber,
  type DaemonOptions,
  type JsonOption,
} from '../options.js';
import { paintFor } from '../paint.js';

interface ExplainOptions extends DaemonOptions, JsonOption {
  readonly protocol: number;
  readonly port?: number;
  readonly ttl: number;
  readonly size: number;
  readonly df?: true;
  readonly sender?: string;
}

/** `flannelctl explain`: what would become of a packet, and why. */
export function addExplainCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('explain')
    .argument('<source-or-destination>', 'the address that the packet comes from; alone, the one it goes to')
    .argument('[destination]', 'the address that it goes to')
    .summary('say what would become of a packet, and why')
    .description(
      "Walks a packet's way on this node without sending any: the kernel's route, firewall rules, the forwarding " +
        'table, the underlay, and what the next hop would check. The dataplane answers with the code and the table ' +
        'that its workers use. A source in the subnet of another node makes it a packet that arrives by the tunnel. ' +
        'Exits 0 when the packet would be forwarded or delivered, 1 when it would be dropped.',
    )
    .addOption(
      new Option('--protocol <name>', 'icmp, tcp, udp or a number').argParser(protocol).default(PROTOCOL_ICMP, 'icmp'),
    )
    .option('--port <number>', 'destination port, for firewall rules', wholeNumber(1, 65535))
    .option('--ttl <hops>', 'TTL with which this node gets the packet', wholeNumber(0, 255), 64)
    .option('--size <bytes>', 'length of the packet, IP header included', wholeNumber(20, 65535), 84)
    .option('--df', 'the packet must not be fragmented')
    .option('--sender <address>', 'the packet arrives by the tunnel, in a datagram from this address');
  addDaemonOptions(addJsonOption(command), context);
  addExamples(command, [
    ['flannelctl explain 10.5.1.2 10.5.2.3', 'from a pod of this node to one elsewhere'],
    ['flannelctl explain 10.5.2.3 --protocol udp --port 53', "a packet of this host's own"],
    ['flannelctl explain 10.5.2.3 10.5.1.2', 'the way back: would this node let it in?'],
    ['flannelctl explain 10.5.9.9 10.5.1.2 --sender 192.0.2.7', 'a forged one'],
    ['flannelctl explain 10.5.1.2 10.5.2.3 --size 1500 --df', 'does it fit?'],
  ]);
  command.action(async (first: string, second: string | undefined, options: ExplainOptions) => {
    const client = new ControlClient(options.socket);
    const spec = packetSpec(first, second, options);
    const explanation = await explainPacket(spec, client, new ThisHost());
    if (options.json) printJson(context, explanation);
    else printLines(context.stdout, explainReport(spec, explanation, paintFor(context.stdout, context.env)));
    if (explanation.verdict === 'dropped') context.exitCode = 1;
  });
}

function packetSpec(first: string, second: string | undefined, options: ExplainOptions): PacketSpec {
  const { protocol, port, ttl, size, df, sender } = options;
  if (port !== undefined && protocol !== PROTOCOL_TCP && protocol !== PROTOCOL_UDP) {
    throw new UsageError('--port needs --protocol tcp or udp');
  }
  return {
    source: second === undefined ? undefined : address('source', first),
    destination: address('destination', second ?? first),
    protocol,
    port,
    ttl,
    lengthBytes: size,
    dontFragment: df === true,
    sender: sender === undefined ? undefined : address('--sender', sender),
  };
}

function address(what: string, text: string): number {
  const parsed = parseIpv4(text);
  if (parsed === undefined) throw new UsageError(`${what} '${text}': expected an IPv4 address`);
  return parsed;
}

function protocol(text: string): number {
  const known = protocolNumber(text);
  if (known !== undefined) return known;
  if (!/^\d{1,3}$/.test(text) || Number(text) > 255) {
    throw new InvalidArgumentError('expected icmp, tcp, udp or a number up to 255.');
  }
  return Number(text);
}
