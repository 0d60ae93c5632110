/**
 * Run inside a namespace: opens a device of two queues, lets the host send to one address after the other, answers each
 * packet by the queue that it did not come from, and lets the host send once more. Prints, as JSON, for each address from
 * which queue it was read the first time and from which the second.
 */
import { createSocket } from 'node:dgram';
import { readSync, writeSync } from 'node:fs';
import { openTun } from '../../../src/dataplane/native.js';
import { runCommand } from '../../../src/host/command.js';

const DESTINATIONS = 32;

const { name, fds } = openTun({ queues: 2, virtio: false });
await runCommand('ip', ['address', 'add', '10.5.1.0/32', 'dev', name]);
await runCommand('ip', ['link', 'set', name, 'up']);
await runCommand('ip', ['route', 'add', '10.5.0.0/16', 'dev', name]);
const socket = createSocket('udp4');

/** Sends to `address` and waits for the packet. */
async function send(address: string): Promise<{ queue: number; packet: Buffer }> {
  socket.send('question', 7, address);
  for (;;) {
    for (const [queue, fd] of fds.entries()) {
      for (let packet = read(fd); packet !== undefined; packet = read(fd)) {
        if (packet[0] === 0x45 && packet.subarray(16, 20).join('.') === address) return { queue, packet };
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

function read(fd: number): Buffer | undefined {
  const buffer = Buffer.alloc(2048);
  try {
    return buffer.subarray(0, readSync(fd, buffer));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return undefined;
    throw error;
  }
}

/** The way back, with the same checksums: what is summed is only in another order. */
function answerTo(packet: Buffer): Buffer {
  const [source, destination] = [packet.subarray(12, 16), packet.subarray(16, 20)];
  const [from, to] = [packet.subarray(20, 22), packet.subarray(22, 24)];
  return Buffer.concat([packet.subarray(0, 12), destination, source, to, from, packet.subarray(24)]);
}

const queues: [first: number, second: number][] = [];
for (let number = 1; number <= DESTINATIONS; number++) {
  const address = `10.5.2.${number}`;
  const first = await send(address);
  writeSync(fds[1 - first.queue], answerTo(first.packet));
  queues.push([first.queue, (await send(address)).queue]);
}
process.stdout.write(JSON.stringify(queues));
process.exit(0);
