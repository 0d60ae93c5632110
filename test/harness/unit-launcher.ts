/** A launcher of the agent with the rights that the shipped systemd unit gives, for machines on which systemd does not run. */
import { readFileSync } from 'node:fs';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CAPABILITIES, type Capability } from '../../src/flanneld/capabilities.js';
import { FLANNELD, ROOT } from './daemon.js';

/** What the unit names as `AmbientCapabilities`. */
export function capabilitiesOfUnit(): readonly Capability[] {
  const unit = readFileSync(join(ROOT, 'deploy/flanneld.service'), 'utf8');
  const [, names = ''] = /^AmbientCapabilities=(.+)$/m.exec(unit) ?? [];
  return names.split(' ').map((name) => {
    const capability = name.replace(/^CAP_/, '');
    if (!(capability in CAPABILITIES)) throw new Error(`the unit's ${name} is no capability of the agent's`);
    return capability as Capability;
  });
}

/** Writes the launcher into `folder`, and answers its path. */
export async function unitLauncher(folder: string): Promise<string> {
  const set = ['-all', ...capabilitiesOfUnit().map((name) => `+cap_${CAPABILITIES[name]}`)].join(',');
  const sets = ['bounding-set', 'inh-caps', 'ambient-caps'].map((name) => `--${name}=${set}`).join(' ');
  const path = join(folder, 'flanneld-of-unit');
  await writeFile(path, `#!/bin/sh\nexec setpriv --no-new-privs ${sets} '${FLANNELD}' "$@"\n`);
  await chmod(path, 0o755);
  return path;
}
