/**
 * The next agent of a takeover, up to a step of the handover at which it is to be killed:
 *
 *   half-successor HANDOVER-SOCKET PREFIX offered|parked|taken
 *
 * `offered`: it has the queues; `parked`: the running agent has parked its workers; `taken`: it has the token besides, and
 * could go. Says `{"listening":true}` when it is there.
 */
import { readSync } from 'node:fs';
import { MessageChannel, type Message } from '../../src/dataplane/message-channel.js';

const PATIENCE_MS = 30_000;

const [path, prefix, step] = process.argv.slice(2);
const channel = MessageChannel.connect(path);

async function answer(): Promise<Message> {
  const message = await channel.receive(PATIENCE_MS);
  if (message === undefined) throw new Error(`the running agent does not answer, before "${step}"`);
  return message;
}

channel.send(JSON.stringify({ type: 'take-over', version: 2, prefix }));
const offer = await answer();
if (step !== 'offered') {
  channel.send('{"type":"ready"}');
  await answer();
}
if (step === 'taken') {
  const { names } = JSON.parse(offer.text) as { names: string[] };
  readSync(offer.fds[names.indexOf('token')], Buffer.alloc(8));
}
process.stdout.write('{"listening":true}\n');
