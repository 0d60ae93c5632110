import { closeSync, existsSync } from 'node:fs';

import type { StoredDescriptor } from '../backend/descriptor-store.js';
import { ControlServer, type ControlAccess, type ControlServices } from '../observe/control-server.js';
import type { HealthServer } from '../observe/health-server.js';
import { checkPeers } from '../observe/peer-check.js';
import type { AgentState } from './agent-state.js';
import type { FlanneldOptions } from './flags.js';
import { within } from './persistence.js';

/** How long the servers get to end their connections. */
const CLOSE_MS = 200;

/** Under these names the sockets that they listen on are handed over. */
const CONTROL = 'control';
const HEALTH = 'health';

/** Where an agent answers: the control socket, and health and metrics where the flags ask for them. */
export class AgentServers {
  readonly #options: FlanneldOptions;
  readonly #state: AgentState;
  readonly #services: ControlServices;
  #control: ControlServer | undefined;
  #health: HealthServer | undefined;

  constructor(options: FlanneldOptions, state: AgentState, services: ControlServices) {
    this.#options = options;
    this.#state = state;
    this.#services = services;
  }

  /**
   * @param inherited - sockets on which another process has listened, and does no more
   * @throws FlannelError `CONTROL` or `HOST`
   */
  async start(inherited: readonly StoredDescriptor[] = []): Promise<void> {
    const fdOf = (wanted: string): number | undefined => inherited.find(({ name }) => name === wanted)?.fd;
    const { controlSocket: path } = this.#options;
    let control = fdOf(CONTROL);
    // An agent that was stopped has removed it.
    if (control !== undefined && !existsSync(path)) {
      closeSync(control);
      control = undefined;
    }
    const access = await controlAccess(this.#options);
    this.#control =
      control === undefined
        ? await ControlServer.listen(path, this.#state, this.#services, access)
        : await ControlServer.adopt(control, path, this.#state, this.#services, access);
    this.#health = await this.#startHealth(fdOf(HEALTH));
  }

  /** What another process may listen on in this one's place. */
  descriptors(): readonly StoredDescriptor[] {
    return [
      { name: CONTROL, fd: this.#control?.descriptor },
      { name: HEALTH, fd: this.#health?.descriptor },
    ].filter((one): one is StoredDescriptor => one.fd !== undefined);
  }

  /** @param ceded - another process answers on the same sockets: they stay */
  async close(ceded: boolean): Promise<void> {
    const control = ceded ? this.#control?.cede() : this.#control?.close();
    await within(CLOSE_MS, Promise.all([control, this.#health?.close()]));
  }

  /** All that can be done while the process exits. */
  removeSocket(): void {
    this.#control?.removeSocket();
  }

  async #startHealth(inherited: number | undefined): Promise<HealthServer | undefined> {
    const { address, port } = this.#options.health;
    if (port === 0) return undefined;
    const [{ HealthServer: Server }, { createMetrics }] = await Promise.all([
      import('../observe/health-server.js'),
      import('../observe/metrics.js'),
    ]);
    return Server.listen(address, port, this.#state, await createMetrics(this.#state), inherited);
  }
}

async function controlAccess({ controlGroup }: FlanneldOptions): Promise<ControlAccess> {
  const { lookUpGroup, peerIdentity } = await import('../dataplane/rights.js');
  const groupId = controlGroup === undefined ? undefined : lookUpGroup(controlGroup);
  return { groupId, check: checkPeers(process.getuid?.() ?? 0, groupId, peerIdentity) };
}
