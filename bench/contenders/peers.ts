/** Tunnels of others that a user may have; none of them is needed. */
import { accessSync, constants, realpathSync } from 'node:fs';
import { UsageError } from '../../src/errors.js';
import { findProgram } from '../../src/lab/requirements.js';
import { FLANNELD } from '../../test/harness/daemon.js';
import type { Store } from '../site.js';
import { agentContender } from './agent.js';
import type { Contender } from './contender.js';
import { nebula } from './nebula.js';
import { wireguardGo } from './wireguard-go.js';

type MakePeer = (program: string, store: () => Promise<Store>) => Contender;

/** By the program's name. */
export const PEERS = {
  flanneld: (program, store) => agentContender(store, { name: 'flannel', title: "flannel's own udp backend", program }),
  'wireguard-go': (program) => wireguardGo(program),
  nebula: (program) => nebula(program),
} satisfies Record<string, MakePeer>;

/** A peer as the command line names it. */
export interface PeerChoice {
  readonly name: keyof typeof PEERS;
  /** Where it is; `undefined`: to be found in PATH. */
  readonly path?: string;
}

/** @throws UsageError when the program is not there */
export function peerContender({ name, path }: PeerChoice, store: () => Promise<Store>): Contender {
  const make: MakePeer = PEERS[name];
  return make(path === undefined ? findPeer(name) : checkPeer(name, path), store);
}

function checkPeer(name: string, path: string): string {
  try {
    accessSync(path, constants.X_OK);
    return realpathSync(path);
  } catch {
    throw new UsageError(`--peer ${name}=${path}: there is no such program`);
  }
}

function findPeer(name: string): string {
  const found = findProgram(name);
  // Our own flanneld goes by the same name.
  if (found === undefined || realpathSync(found) === realpathSync(FLANNELD)) {
    const what = found === undefined ? `there is no ${name} in PATH` : `the ${name} in PATH is this project's own`;
    throw new UsageError(`--peer ${name}: ${what}: give the path of one, --peer ${name}=PATH`);
  }
  return found;
}
