/** The backends that this project has, by the name that `Backend.Type` of the network configuration gives them. */
import { NetworkConfigError } from '../errors.js';
import { BACKEND_TYPES } from './backend-types.js';
import type { Backend } from './backend.js';

/** Loaded when chosen: one backend's parts are no concern of a node that runs another. */
const LOADERS: Readonly<Record<string, () => Promise<Backend>>> = {
  udp: async () => new (await import('./udp/udp-backend.js')).UdpBackend(),
};

/**
 * The backend of that name.
 * @throws NetworkConfigError naming those that exist
 */
export async function backendOfType(type: string): Promise<Backend> {
  if (!Object.hasOwn(LOADERS, type)) {
    throw new NetworkConfigError(
      `Backend.Type "${type}" is not a backend of this flanneld: choose one of ${BACKEND_TYPES.join(', ')}`,
    );
  }
  return LOADERS[type]();
}
