import { existsSync, rmSync } from 'node:fs';

import { FlannelError, errorMessage } from '../errors.js';
import { cleanUpNetwork } from '../host/cleanup.js';
import { findLinks } from '../host/link.js';
import { livingDaemonError, probeControlSocket } from '../observe/control-server.js';
import { readSubnetEnv } from '../subnet/subnet-env.js';
import type { FlanneldOptions } from './flags.js';
import { snapshotPath } from './snapshot-file.js';

/**
 * Takes away everything that this network (told by `--etcd-prefix` and `--subnet-file`) made on this host, and answers
 * what that was, one line each. The store is not asked, and the lease there is left alone.
 * @throws FlannelError `CONTROL` while the network's daemon lives; `HOST` when something could not be removed
 */
export async function cleanUp(options: FlanneldOptions, print: (line: string) => void): Promise<void> {
  const { controlSocket, subnetFile, etcd } = options;
  const owner = await probeControlSocket(controlSocket);
  if (owner.state === 'alive') throw livingDaemonError(controlSocket, owner, 'stop it before --cleanup');

  const inUse = (await findLinks(etcd.prefix)).find((link) => link.carrier);
  if (inUse !== undefined) {
    throw new FlannelError(
      'CONTROL',
      `the device ${inUse.name} of the network at ${etcd.prefix} is in use: stop its flanneld (on another ` +
        '--control-socket) before --cleanup, and let systemd drop what it keeps of it: ' +
        '`systemctl clean --what=fdstore flanneld`',
    );
  }

  const { network } = await readSubnetEnv(subnetFile);
  const report = await cleanUpNetwork(etcd.prefix, network === undefined ? [] : [network]);
  const removed = [...report.removed];
  const failed = [...report.failed];
  // Last, for a cleanup that failed half way finds the network in it again.
  const own = [subnetFile, snapshotPath(subnetFile)];
  const files = failed.length > 0 ? [] : owner.state === 'stale' ? [...own, controlSocket] : own;
  for (const file of files) {
    if (!existsSync(file)) continue;
    try {
      rmSync(file);
      removed.push(`file ${file}`);
    } catch (error) {
      failed.push(errorMessage(error));
    }
  }

  for (const what of removed) print(`removed ${what}`);
  if (failed.length > 0) {
    throw new FlannelError('HOST', `not everything could be removed: ${failed.join('; ')}`);
  }
  if (removed.length === 0) print(`nothing to remove for the network at ${etcd.prefix}`);
}
