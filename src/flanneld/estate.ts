import type { AgentServers } from './agent-servers.js';
import type { AgentState } from './agent-state.js';
import type { FlanneldOptions } from './flags.js';
import type { Estate } from './handover.js';
import type { SnapshotFile } from './snapshot-file.js';

export interface EstateParts {
  readonly options: FlanneldOptions;
  readonly state: AgentState;
  readonly servers: AgentServers;
  readonly snapshots: SnapshotFile;
  readonly leave: (taken: boolean) => void;
}

/** What this agent hands over to the next one. */
export function estateOf({ options, state, servers, snapshots, leave }: EstateParts): Estate {
  return {
    prefix: options.etcd.prefix,
    unfit() {
      if (process.env.NOTIFY_SOCKET)
        return 'it runs under a service manager: restart it there, which loses no packet either';
      return state.notReadyReason();
    },
    snapshot: () => snapshots.current(),
    descriptors: () => [...(state.runningBackend?.descriptors() ?? []), ...servers.descriptors()],
    park: async () => state.runningBackend?.park(),
    resume: async () => state.runningBackend?.resume(),
    leave,
  };
}
