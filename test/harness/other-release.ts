/**
 * Stands in for an agent of another release under a service manager: it leaves queues of the device under names, and a
 * snapshot in a form, that this release does not know.
 *
 *   other-release DEVICE QUEUES SNAPSHOT
 */
import { openSync, writeFileSync } from 'node:fs';
import { openTun } from '../../src/dataplane/native.js';
import { notifySocket } from '../../src/dataplane/passed-descriptors.js';

const [name, queues, snapshot] = process.argv.slice(2);
const path = process.env.NOTIFY_SOCKET ?? '';
const { fds } = openTun({ name, queues: Number(queues), virtio: true });
for (const [index, fd] of [...fds, openSync('/dev/null', 'r')].entries()) {
  notifySocket(path, `FDSTORE=1\nFDNAME=next-${index}\nFDPOLL=0`, [fd]);
}
writeFileSync(snapshot, '{"version":99}\n', { mode: 0o600 });
notifySocket(path, 'READY=1');
setInterval(() => undefined, 1000);
