/** Processor time: of the whole machine, since a kernel's dataplane has no process, and of the agents. */
import { readFileSync } from 'node:fs';

/** Clock ticks a second in /proc (USER_HZ); 100 on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

/** Seconds of processor time that the machine's processors have been busy since boot. */
export function machineSeconds(stat = readFileSync('/proc/stat', 'utf8')): number {
  // cpu user nice system idle iowait irq softirq steal guest guest_nice, proc_stat(5); guests count under user already,
  // and what a hypervisor took away was nobody's work here.
  const [, user, nice, system, , , irq, softirq] = stat.slice(0, stat.indexOf('\n')).trim().split(/\s+/).map(Number);
  return (user + nice + system + irq + softirq) / TICKS_PER_SECOND;
}

/** Seconds of processor time that processes have used so far, all their threads, in user and kernel mode. */
export function processSeconds(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + ticksOf(readFileSync(`/proc/${pid}/stat`, 'utf8')), 0) / TICKS_PER_SECOND;
}

function ticksOf(stat: string): number {
  // The program's name stands in parentheses and may hold spaces; utime and stime are fields 14 and 15, proc_pid_stat(5).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

/** What an interval of work cost. */
export interface ProcessorCost {
  readonly machineSeconds: number;
  readonly agentSeconds: number;
}

/** Starts to count; the function that it returns tells what has been used since. */
export function countProcessorTime(agents: readonly number[]): () => ProcessorCost {
  const machine = machineSeconds();
  const own = processSeconds(agents);
  return () => ({ machineSeconds: machineSeconds() - machine, agentSeconds: processSeconds(agents) - own });
}
