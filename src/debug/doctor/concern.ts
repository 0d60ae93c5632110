import type { ConcernAnswer, ConcernId } from '../../observe/control-protocol.js';
import type { NodeFacts } from './facts.js';

/** What the agent itself is concerned about. */
export function concernOf(status: NodeFacts['status'], id: ConcernId): ConcernAnswer | undefined {
  return status.known ? status.value.concerns?.find((concern) => concern.id === id) : undefined;
}
