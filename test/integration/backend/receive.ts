/** Prints the payload of every UDP datagram that arrives at the port given as the first argument, one a line. */
import { createSocket } from 'node:dgram';

const socket = createSocket('udp4');
socket.on('message', (message) => void process.stdout.write(`${message.toString()}\n`));
socket.bind(Number(process.argv[2]), '0.0.0.0', () => void process.stdout.write('ready\n'));
