/** A real flanneld for tests to stand beside. */
import { accessSync, constants, realpathSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { runCommand } from '../../src/host/command.js';
import { FLANNELD } from './daemon.js';

export interface FlannelPeer {
  readonly program?: string;
  /** Why there is none. */
  readonly why: string;
}

/** The program that `PEER_FLANNELD` names (no flag of an agent has that variable); else the `flanneld` on the PATH, if it is not ours. */
export async function findFlannel(): Promise<FlannelPeer> {
  const named = process.env.PEER_FLANNELD;
  const candidates =
    named !== undefined && named !== ''
      ? [named]
      : (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, 'flanneld'));
  for (const candidate of candidates) {
    if (!isExecutable(candidate)) continue;
    if (realpathSync(candidate) === realpathSync(FLANNELD)) continue;
    // Ours names itself; flannel prints its version alone, to standard error.
    const { stdout, stderr, status } = await runCommand(candidate, ['--version'], { allowFailure: true });
    if (status === 0 && !/flannelette/i.test(stdout + stderr)) return { program: candidate, why: '' };
  }
  const where = named !== undefined && named !== '' ? `PEER_FLANNELD=${named} is none` : 'none is on the PATH';
  return { why: `needs a real flanneld: ${where}; PEER_FLANNELD=/path/to/flanneld names one` };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
