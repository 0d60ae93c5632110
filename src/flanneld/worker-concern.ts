import type { WorkerStatus } from '../backend/status.js';
import type { ConcernAnswer } from '../observe/control-protocol.js';

const REMEDY =
  'packets that a worker has in hand are lost each time: report it with the log of flanneld; a restart of it keeps pods and lease';

/** Packet workers that have failed lately; they are started again, and this ends when they go on without failing. */
export function workerConcern(workers: readonly WorkerStatus[]): ConcernAnswer | undefined {
  const failing = workers.flatMap(({ name, failing: failures }) => (failures ? [{ name, ...failures }] : []));
  if (failing.length === 0) return undefined;
  const told = failing.map(({ name, times, reason }) => {
    const often = times === 1 ? 'failed' : `has failed ${times} times in a row`;
    return `packet worker ${name} ${often} and is started again: ${reason}`;
  });
  const [since] = failing.map((failures) => failures.since).sort();
  return { id: 'packet-workers', since, message: told.join('; '), remedy: REMEDY };
}
