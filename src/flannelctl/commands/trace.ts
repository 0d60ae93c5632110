import type { Command } from 'commander';
import { tracedPacket, traceLine, type TraceLine } from '../../debug/trace/trace-line.js';
import { PacketStatistics } from '../../debug/trace/packet-statistics.js';
import { printLines, type CommandContext } from '../context.js';
import { ControlClient } from '../control-client.js';
import { addExamples, addJsonOption, type JsonOption } from '../options.js';
import { addPacketOptions, packetRequest, type PacketOptions } from '../packet-options.js';
import { paintFor, type Paint } from '../paint.js';
import { formatTable } from '../table.js';
import { describeLoss, watchPackets } from '../watch-packets.js';
import { wordCount } from '../wording.js';

interface TraceOptions extends PacketOptions, JsonOption {
  readonly stats?: true;
}

/** All headers, and the beginning of what filters like to look into. */
const TRACE_BYTES = 256;

/** `flannelctl trace`: packets as they pass, a line each. */
export function addTraceCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('trace')
    .summary('show packets as they pass, and what becomes of each')
    .description(
      'Shows each packet that the dataplane of this node handles: when, in which direction, from where to where, and its ' +
        'verdict: forwarded to whom by which lease, delivered, or dropped and why. Addresses, ports and TTL are those ' +
        'that it came with. The filter language is that of tcpdump (pcap-filter(7)), compiled by tcpdump itself; it sees ' +
        `the first ${TRACE_BYTES} bytes of a packet. Packets never wait for a trace: where it cannot keep up it loses ` +
        'records, and says so at the end. Ends with Ctrl-C.',
    )
    .option('--stats', 'at the end, show how many packets there were of each verdict and reason');
  addPacketOptions(addJsonOption(command), context);
  addExamples(command, [
    ['flannelctl trace', 'everything'],
    ["flannelctl trace 'host 10.5.2.3 and tcp port 80'", 'one pod and port'],
    ['flannelctl trace --drops', 'what does not get through, and why'],
    ['flannelctl trace --reason spoofed-source,unknown-sender', 'what does not belong here'],
    ["flannelctl trace icmp --direction decap --outer 'host 192.0.2.7' --count 5", 'pings from one node'],
    ['flannelctl trace --sample 1/1000 --json | jq .inner', 'a sample of busy traffic, for a script'],
  ]);
  command.action(async (filter: string[], options: TraceOptions) => {
    const request = await packetRequest(filter, options, { packetBytes: TRACE_BYTES, wirePackets: false });
    const paint = paintFor(context.stdout, context.env);
    const statistics = new PacketStatistics();
    const lines = new LineBatch(context);
    const limits = { count: options.count, durationMs: options.duration };
    const loss = await watchPackets(new ControlClient(options.socket), request, limits, context, {
      packet(event, hello) {
        const line = options.json ? JSON.stringify(tracedPacket(event, hello)) : dress(traceLine(event, hello), paint);
        lines.add(line);
        if (options.stats) statistics.add(event, hello);
      },
    });
    lines.flush();
    const complaint = describeLoss(loss);
    if (complaint !== undefined) printLines(context.stderr, [`flannelctl: ${complaint}`]);
    if (options.stats) printLines(context.stderr, statisticsTable(statistics, paintFor(context.stderr, context.env)));
  });
}

/** Writes lines that come at once in one go: there may be many thousands a second. */
class LineBatch {
  private text = '';

  constructor(private readonly context: CommandContext) {}

  add(line: string): void {
    if (this.text === '') setImmediate(() => this.flush());
    this.text += `${line}\n`;
  }

  flush(): void {
    if (this.text !== '') this.context.stdout.write(this.text);
    this.text = '';
  }
}

function dress({ time, node, direction, packet, verdict, dropped }: TraceLine, paint: Paint): string {
  return `${paint.faint(`${time} ${node}`)} ${direction} ${packet} ${dropped ? paint.bad(verdict) : paint.good(verdict)}`;
}

function statisticsTable(statistics: PacketStatistics, paint: Paint): string[] {
  const rows = statistics
    .rows()
    .map(({ direction, verdict, reason, shown, packets, bytes }) => [
      ...[direction, verdict, reason ?? '', wordCount(shown), wordCount(packets), wordCount(bytes)],
    ]);
  if (rows.length === 0) return ['no packet was shown'];
  return formatTable(
    [
      { title: 'DIRECTION' },
      { title: 'VERDICT' },
      { title: 'REASON' },
      { title: 'SHOWN', align: 'right' },
      { title: 'PACKETS', align: 'right' },
      { title: 'BYTES', align: 'right' },
    ],
    rows,
    paint,
  );
}
