/** The rights of a running process, as the kernel has them: proc(5), `/proc/PID/task/TID/status`. */
import { readdirSync, readFileSync } from 'node:fs';

/** What one thread is and may. */
export interface ThreadRights {
  readonly name: string;
  /** Real, effective, saved and file system user. */
  readonly uids: readonly number[];
  readonly gids: readonly number[];
  readonly groups: readonly number[];
  readonly permitted: bigint;
  readonly effective: bigint;
  readonly inheritable: bigint;
  readonly bounding: bigint;
  readonly ambient: bigint;
  readonly noNewPrivileges: boolean;
  /** Under a seccomp filter. */
  readonly filtered: boolean;
}

/** Of every thread that runs. */
export function threadRights(pid: number): ThreadRights[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((tid) => {
    try {
      return [parse(readFileSync(`/proc/${pid}/task/${tid}/status`, 'utf8'))];
    } catch {
      return []; // it has ended meanwhile
    }
  });
}

function parse(status: string): ThreadRights {
  const fields = new Map(
    status.split('\n').map((line) => {
      const [name, value = ''] = line.split(/:\s*/, 2);
      return [name, value] as const;
    }),
  );
  const field = (name: string): string => {
    const value = fields.get(name);
    if (value === undefined) throw new Error(`no ${name} in a thread's status`);
    return value;
  };
  const numbers = (name: string): number[] => field(name).split(/\s+/).filter(Boolean).map(Number);
  const set = (name: string): bigint => BigInt(`0x${field(name)}`);
  return {
    name: field('Name'),
    uids: numbers('Uid'),
    gids: numbers('Gid'),
    groups: numbers('Groups'),
    permitted: set('CapPrm'),
    effective: set('CapEff'),
    inheritable: set('CapInh'),
    bounding: set('CapBnd'),
    ambient: set('CapAmb'),
    noNewPrivileges: field('NoNewPrivs') === '1',
    filtered: field('Seccomp') === '2',
  };
}
