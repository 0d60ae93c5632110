/**
 * What runs inside a namespace for the test of `explain`: `node explain-program.js COMMAND ARGUMENTS`. Packets and
 * questions come as lines of JSON on standard input, answers go out as lines of JSON.
 */
import { createSocket } from 'node:dgram';
import { createInterface } from 'node:readline';
import { RawSender } from '../../../src/host/raw-sender.js';
import { explainPacket } from '../../../src/debug/explain/explain.js';
import { ThisHost } from '../../../src/debug/explain/host-view.js';
import type { PacketSpec } from '../../../src/debug/explain/packet-spec.js';
import { ControlClient } from '../../../src/flannelctl/control-client.js';
import { formatIpv4 } from '../../../src/packet/address.js';
import { ipv4Destination } from '../../../src/packet/ipv4.js';

const [command, ...args] = process.argv.slice(2);
const say = (what: unknown): void => void process.stdout.write(`${JSON.stringify(what)}\n`);

const commands: Record<string, () => Promise<void> | void> = {
  /** explain SOCKET: a `PacketSpec` a line in, an `Explanation` a line out, in the same order. */
  async explain() {
    const client = new ControlClient(args[0], { timeoutMs: 30_000 });
    const host = new ThisHost();
    for await (const line of createInterface({ input: process.stdin })) {
      say(await explainPacket(JSON.parse(line) as PacketSpec, client, host));
    }
  },

  /** send: packets with their own headers, in hexadecimal, routed as this host's. */
  async send() {
    const sender = await RawSender.open();
    for await (const line of createInterface({ input: process.stdin })) {
      const sent = await new Promise<boolean>((resolve) => sender.send(Buffer.from(line, 'hex'), resolve));
      say({ sent });
    }
    sender.close();
  },

  /** sink PORT ADDRESS…: tells which of the addresses got a packet to which inner destination, until it is ended. */
  sink() {
    const [port, ...addresses] = args;
    let open = addresses.length;
    for (const address of addresses) {
      const socket = createSocket('udp4');
      socket.on('message', (message) => say({ at: address, destination: formatIpv4(ipv4Destination(message, 0)) }));
      socket.bind(Number(port), address, () => --open === 0 && say({ listening: Number(port) }));
    }
    process.stdin.on('end', () => process.exit(0)).resume();
  },
};

await commands[command]();
