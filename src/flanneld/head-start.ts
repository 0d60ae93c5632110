/**
 * What takes long and depends on nothing but flags is begun before the agent is loaded, for packets may be waiting since
 * the last run: see `run-agent.ts` for what follows.
 */
import { startThreadsAhead } from '../dataplane/worker-thread.js';
import { CommandsAhead } from '../host/commands-ahead.js';
import { INTERFACES_QUERY } from '../host/interfaces.js';
import { ROUTES_QUERY } from '../host/routes.js';
import type { FlanneldOptions } from './flags.js';

/** What has been begun. */
export interface HeadStart {
  /** Has asked this machine for its interfaces and routes. */
  readonly commands: CommandsAhead;
}

/** Starts the threads of the packet workers, and asks for what the choice of the interface and of the device needs. */
export function takeHeadStart({ workers }: FlanneldOptions): HeadStart {
  startThreadsAhead(workers);
  const queries = [INTERFACES_QUERY, ROUTES_QUERY];
  return { commands: new CommandsAhead(queries.map((query) => ['ip', '-json', ...query] as const)) };
}
