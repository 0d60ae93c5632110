import { FlannelError, UsageError } from '../errors.js';
import { runCommand, type RunCommand } from '../host/command.js';
import { PacketFilter } from '../packet/classic-bpf.js';

/**
 * Compiles an expression of the pcap filter language (pcap-filter(7)) for packets that begin with their IP header, by
 * libpcap's own compiler: the one in tcpdump, which opens no device and needs no privilege for it.
 * @returns the program as {@link PacketFilter} takes it
 * @throws UsageError with the compiler's own message; FlannelError `HOST` when there is no tcpdump
 */
export async function compileFilter(expression: string, run: RunCommand = runCommand): Promise<number[]> {
  const { stdout, stderr, status } = await run('tcpdump', ['-ddd', '-y', 'RAW', '--', expression], {
    allowFailure: true,
  });
  if (status !== 0) throw new UsageError(`bad filter '${expression}': ${complaint(stderr)}`);
  const [count, ...program] = stdout.split(/\s+/).filter(Boolean).map(Number);
  if (program.length !== 4 * count) {
    throw new FlannelError('HOST', 'cannot read the program that `tcpdump -ddd` printed: is another tcpdump in PATH?');
  }
  try {
    new PacketFilter(program);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(`bad filter '${expression}': ${error.message}`);
  }
  return program;
}

function complaint(stderr: string): string {
  const lines = stderr.split('\n').map((line) => line.replace(/^tcpdump: /, '').trim());
  return lines.find((line) => line !== '') ?? 'tcpdump does not say why';
}
