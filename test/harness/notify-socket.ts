import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { until } from './until.js';

/** Listens as systemd does; Node has no unix datagram sockets, and Perl is part of every Debian. */
const PROGRAM = `
use Socket; $| = 1;
socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die $!;
bind($s, sockaddr_un($ARGV[0])) or die $!;
print "listening\\n";
while (defined(recv($s, my $m, 65536, 0))) { $m =~ s/\\n/ | /g; print "$m\\n"; }
`;

/** A `NOTIFY_SOCKET` that writes down what a service tells (sd_notify(3)). */
export class NotifySocket {
  readonly #child: ChildProcess;
  #output = '';

  private constructor(readonly path: string) {
    this.#child = spawn('perl', ['-e', PROGRAM, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
  }

  static async listen(path: string): Promise<NotifySocket> {
    const socket = new NotifySocket(path);
    await until('the notify socket listens', () => socket.#output.startsWith('listening\n'));
    return socket;
  }

  /** What was told, a message an element, its lines joined by ` | `. */
  get messages(): string[] {
    return this.#output.split('\n').slice(1).filter(Boolean);
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.kill('SIGKILL');
    await ended;
  }
}
