/** Processes that outlive the command that started them, remembered so that no other process is ever taken for them. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** A process, told apart from a later one of the same pid by when it started. */
export interface ProcessRecord {
  readonly pid: number;
  /** Start time in clock ticks since boot: field 22 of /proc/PID/stat, proc(5). It stays the same across execve. */
  readonly startTicks: number;
}

/**
 * A record of a process; `undefined` when there is none. One that has ended can be recorded as long as its parent has
 * not taken notice: a parent that records its child right after the start always gets a record.
 */
export function recordProcess(pid: number): ProcessRecord | undefined {
  const stat = readStat(pid);
  return stat === undefined ? undefined : { pid, startTicks: stat.startTicks };
}

/** Whether that very process still runs. */
export function isRunning({ pid, startTicks }: ProcessRecord): boolean {
  const stat = readStat(pid);
  return stat?.startTicks === startTicks && !stat.ended;
}

/** Sends a signal to that very process; does nothing when it has ended. */
export function signal(record: ProcessRecord, name: NodeJS.Signals): void {
  if (!isRunning(record)) return;
  try {
    process.kill(record.pid, name);
  } catch {
    // It has ended meanwhile.
  }
}

/** Asks processes to end, waits, and kills those that are left after `graceMs`. Returns when all have ended. */
export async function endProcesses(
  records: readonly ProcessRecord[],
  graceMs = 5000,
  first: NodeJS.Signals = 'SIGTERM',
): Promise<void> {
  for (const record of records) signal(record, first);
  for (const deadline = Date.now() + graceMs; records.some(isRunning); await sleep(20)) {
    if (Date.now() > deadline) for (const record of records) signal(record, 'SIGKILL');
  }
}

/** The processes given and all that descend from them. */
export function withDescendants(roots: Iterable<number>): ProcessRecord[] {
  const children = new Map<number, number[]>();
  const starts = new Map<number, number>();
  for (const entry of readdirSync('/proc')) {
    if (!/^[0-9]+$/.test(entry)) continue;
    const pid = Number(entry);
    const stat = readStat(pid);
    if (stat === undefined || stat.ended) continue;
    starts.set(pid, stat.startTicks);
    children.set(stat.parent, [...(children.get(stat.parent) ?? []), pid]);
  }
  const found = new Set<number>();
  const visit = (pid: number): void => {
    if (found.has(pid) || !starts.has(pid)) return;
    found.add(pid);
    for (const child of children.get(pid) ?? []) visit(child);
  };
  for (const pid of roots) visit(pid);
  return [...found].map((pid) => ({ pid, startTicks: starts.get(pid) ?? 0 }));
}

/** Identifies this boot, so that records of an earlier one mean nothing. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

interface ProcessStat {
  readonly parent: number;
  readonly startTicks: number;
  /** It is a zombie: its parent has not asked yet how it ended. */
  readonly ended: boolean;
}

function readStat(pid: number): ProcessStat | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The program's name stands in parentheses and may hold anything, spaces and parentheses included.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { parent: Number(fields[1]), startTicks: Number(fields[19]), ended: ['Z', 'X'].includes(fields[0]) };
}
