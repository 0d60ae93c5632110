import { ProbeResponder } from '../debug/probe/responder.js';
import type { Logger } from '../log.js';
import { TapHub } from '../observe/tap-hub.js';
import type { SubnetManager } from '../subnet/subnet-manager.js';
import type { StoredDescriptor } from '../backend/descriptor-store.js';
import { AgentServers } from './agent-servers.js';
import type { AgentState } from './agent-state.js';
import { estateOf } from './estate.js';
import type { FlanneldOptions } from './flags.js';
import { HandoverServer, handoverPath } from './handover.js';
import type { KnownLeases } from './known-leases.js';
import { probeNodeOf, probeServiceOf } from './probe-service.js';
import type { SnapshotFile } from './snapshot-file.js';

export interface AgentServicesParts {
  readonly options: FlanneldOptions;
  readonly state: AgentState;
  readonly leases: KnownLeases;
  readonly manager: SubnetManager;
  readonly snapshots: SnapshotFile;
  readonly logger: Logger;
  /** Ends this process: another forwards (`taken`), or is to start from nothing. */
  readonly leave: (taken: boolean) => void;
}

/**
 * What people, other nodes and the next agent ask an agent for: its servers, taps, probes and the handover. Nothing of it
 * carries a packet, so that a start under traffic loads it once packets flow.
 */
export class AgentServices {
  readonly #parts: AgentServicesParts;
  readonly #servers: AgentServers;
  /** Takes part in the probes of other nodes. */
  readonly responder: ProbeResponder;
  #handover: HandoverServer | undefined;

  constructor(parts: AgentServicesParts) {
    this.#parts = parts;
    const { options, state, logger } = parts;
    const hub = new TapHub(state);
    const probeNode = probeNodeOf({ ...parts, hub });
    this.responder = new ProbeResponder(probeNode, logger);
    state.probes = this.responder;
    this.#servers = new AgentServers(options, state, { taps: hub, prober: probeServiceOf(probeNode) });
  }

  /**
   * @param inherited - sockets on which another process has listened, and does no more
   * @throws FlannelError `CONTROL` or `HOST`
   */
  async start(inherited: readonly StoredDescriptor[]): Promise<void> {
    await this.#servers.start(inherited);
    const estate = estateOf({ ...this.#parts, servers: this.#servers });
    this.#handover = new HandoverServer(handoverPath(this.#parts.options.controlSocket), estate, this.#parts.logger);
  }

  /** @param ceded - another process answers on the same sockets: they stay */
  async close(ceded: boolean): Promise<void> {
    this.#handover?.close();
    await this.#servers.close(ceded);
  }
  /** All that can be done while the process exits. */
  removeSockets(ceded: boolean): void {
    this.#handover?.removeSocket();
    if (!ceded) this.#servers.removeSocket();
  }
}
