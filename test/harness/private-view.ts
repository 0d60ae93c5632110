/** A launcher of the agent for tests of rights, which may not change the rights of this machine's own files. */
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../../src/host/command.js';
import { ROOT } from './daemon.js';

/**
 * A launcher that sees the checkout where everybody may reach it, and a TUN that is root's alone, in a mount namespace of
 * its own: nothing of this machine's is changed. To be run by `ip netns exec`, which makes that namespace.
 *
 * @param folder - where it and what it mounts are made
 * @param through - a program that runs the agent, such as one that puts it under a filter first
 * @returns the launcher's path
 */
export async function privateView(folder: string, through?: string): Promise<string> {
  const checkout = join(folder, 'checkout');
  const tun = join(folder, 'tun');
  await mkdir(checkout);
  await runCommand('mknod', ['-m', '600', tun, 'c', '10', '200']);
  const program = join(folder, 'flanneld-elsewhere');
  const agent = through === undefined ? '' : `'${through}' `;
  const steps = [
    `mount --bind '${ROOT}' '${checkout}'`,
    `mount --bind '${tun}' /dev/net/tun`,
    `exec ${agent}'${join(checkout, 'bin/flanneld')}' "$@"`,
  ];
  await writeFile(program, `#!/bin/sh\nset -e\n${steps.join('\n')}\n`);
  await chmod(program, 0o755);
  return program;
}
