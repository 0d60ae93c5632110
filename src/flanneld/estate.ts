import type { RunningBackend } from '../backend/backend.js';
import { FlannelError } from '../errors.js';
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
  let offered: RunningBackend | undefined;
  return {
    prefix: options.etcd.prefix,
    unfit() {
      if (process.env.NOTIFY_SOCKET)
        return 'it runs under a service manager: restart it there, which loses no packet either';
      return state.notReadyReason() ?? (snapshots.whole ? undefined : 'etcd has not listed the leases yet');
    },
    ending: () => state.phase === 'stopping' && !process.env.NOTIFY_SOCKET,
    snapshot: () => snapshots.current(),
    descriptors() {
      offered = state.runningBackend;
      return [...(offered?.descriptors() ?? []), ...servers.descriptors()];
    },
    async park() {
      if (state.runningBackend !== offered)
        throw new FlannelError('BACKEND', 'the backend was started again, with other queues than were offered');
      await offered?.park();
    },
    resume: async () => state.runningBackend?.resume(),
    leave,
  };
}
