import { Option, type Command } from 'commander';
import { captureInterfaces, capturedPackets, type CaptureSettings } from '../../debug/capture/captured-packets.js';
import { CaptureWriter, captureFileName, numberedFiles, type OpenOutput } from '../../debug/capture/capture-file.js';
import { UsageError } from '../../errors.js';
import { printLines, type CommandContext } from '../context.js';
import { ControlClient } from '../control-client.js';
import { addExamples } from '../options.js';
import {
  addPacketOptions,
  fileSize,
  packetRequest,
  positive,
  requireTogether,
  type PacketOptions,
} from '../packet-options.js';
import { describeLoss, watchPackets } from '../watch-packets.js';
import { wordPlural } from '../wording.js';

interface CaptureOptions extends PacketOptions {
  readonly write: string;
  readonly snaplen: number;
  readonly rotate?: number;
  readonly keep?: number;
}

/** Every packet is shorter, so that nothing is cut off. */
const WHOLE_PACKETS = 65_536;
/** Of a packet, the daemon sends at least its headers. */
const LEAST_BYTES = 128;

/** `flannelctl capture`: packets into a file for Wireshark. */
export function addCaptureCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('capture')
    .summary('write packets, inside and around the tunnel, to a file for Wireshark')
    .description(
      'Writes the packets that the dataplane of this node handles to a pcapng file, dropped ones included. It has two ' +
        'interfaces: inside the tunnel (packets of pods, raw IP) and outside (the datagrams around them); a packet is on ' +
        'each that it reached, with its direction, and its verdict as a comment. Super-packets are written as the ' +
        'packets that they are on the wire. Outer headers are put together from what the socket knows: TTL, ' +
        'identification and checksum of the outer headers are not those of the wire. Ends with Ctrl-C.',
    )
    .requiredOption('-w, --write <file>', 'the file to write, or - for standard output')
    .addOption(
      new Option('--snaplen <bytes>', 'bytes of each packet to keep').argParser(positive).default(WHOLE_PACKETS, 'all'),
    )
    .addOption(
      new Option('--rotate <size>', 'go on in FILE-2, FILE-3, … whenever a file has this size, such as 100M').argParser(
        fileSize,
      ),
    )
    .option('--keep <files>', 'with --rotate: keep so many files, the latest', positive);
  addPacketOptions(command, context);
  addExamples(command, [
    ['flannelctl capture -w all.pcapng', 'everything, until Ctrl-C'],
    ["flannelctl capture -w dns.pcapng --duration 30s 'udp port 53'", 'half a minute of DNS'],
    ['flannelctl capture -w drops.pcapng --drops', 'what does not get through, with reasons as comments'],
    ['flannelctl capture -w - | wireshark -k -i -', 'watch it live'],
    ['flannelctl capture -w ring.pcapng --rotate 100M --keep 10', 'the last gigabyte'],
  ]);
  command.action(async (filter: string[], options: CaptureOptions) => {
    requireTogether('--keep', options.keep, '--rotate', options.rotate);
    const settings: CaptureSettings = {
      snapBytes: Math.min(options.snaplen, WHOLE_PACKETS),
      filter: filter.length === 0 ? undefined : filter.join(' '),
      outerFilter: options.outer,
    };
    const open = outputFor(options, context);
    const packetBytes = Math.max(LEAST_BYTES, settings.snapBytes);
    const request = await packetRequest(filter, options, { packetBytes, wirePackets: true });
    const limits = { count: options.count, durationMs: options.duration };
    let writer: CaptureWriter | undefined;
    let packets = 0;
    try {
      const loss = await watchPackets(new ControlClient(options.socket), request, limits, context, {
        begin: (hello) => (writer = new CaptureWriter(captureInterfaces(hello, settings), open, options.rotate)),
        packet(event, hello) {
          writer?.write(capturedPackets(event, hello, settings));
          packets++;
        },
        lost: ({ ring, reader }) => writer?.lost(ring + reader),
      });
      const complaint = describeLoss(loss);
      const into = intoWhat(options, writer?.files ?? 1);
      printLines(context.stderr, [`flannelctl: captured ${wordPlural(packets, 'packet')}${into}`]);
      if (complaint !== undefined) printLines(context.stderr, [`flannelctl: ${complaint}`]);
    } finally {
      writer?.close();
    }
  });
}

/** Where the packets are; of files that were rotated, those that are kept. */
function intoWhat({ write, keep = Infinity }: CaptureOptions, files: number): string {
  if (write === '-') return '';
  const [first, last] = [Math.max(1, files - keep + 1), files].map((number) => captureFileName(write, number));
  return first === last ? ` into ${last}` : ` into ${first} to ${last}`;
}

function outputFor({ write, rotate, keep }: CaptureOptions, { stdout }: CommandContext): OpenOutput {
  if (write !== '-') return numberedFiles(write, keep);
  if (rotate !== undefined) throw new UsageError('--rotate needs a file: -w - is one stream');
  if (stdout.isTTY === true) {
    throw new UsageError('-w - writes packets to standard output, which is a terminal: pipe it, or name a file');
  }
  return () => ({ write: (bytes) => void stdout.write(bytes), close: () => undefined });
}
