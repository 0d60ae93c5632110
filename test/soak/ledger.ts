/** What the agents of one node have counted, over all their lives. */
import { sumCounters, type DirectionCounters } from '../../src/dataplane/counters.js';
import { countedPackets, directionGrowth } from '../hostile/counters.js';

export interface AgentCounts {
  readonly encap: DirectionCounters;
  readonly decap: DirectionCounters;
}

const NOTHING: DirectionCounters = { packets: 0, bytes: 0, dropped: {} };

export class Ledger {
  /** What had been counted before the ledger was opened. */
  #before: AgentCounts = { encap: NOTHING, decap: NOTHING };
  readonly #lives = new Map<number, AgentCounts>();
  readonly #ended = new Set<number>();

  /** From here on only what comes on top counts. */
  open(): void {
    this.#before = this.#sum();
  }

  /** As a running agent tells it: what it told before is part of it. An answer that others have overtaken is passed over. */
  seen(pid: number, { encap, decap }: AgentCounts): void {
    const known = this.#lives.get(pid);
    if (this.#ended.has(pid) || (known !== undefined && countedBy(known) > countedBy({ encap, decap }))) return;
    this.#lives.set(pid, { encap, decap });
  }

  /**
   * As an agent told it when it ended.
   * @throws when its log does not end in that
   */
  ended(pid: number, log: string): void {
    const said = parseLastWords(log);
    if (said === undefined) throw new Error(`an agent has ended without telling its packets:\n${log}`);
    this.#ended.add(pid);
    this.#lives.set(pid, said);
  }

  total(): AgentCounts {
    const sum = this.#sum();
    return {
      encap: directionGrowth(this.#before.encap, sum.encap),
      decap: directionGrowth(this.#before.decap, sum.decap),
    };
  }

  #sum(): AgentCounts {
    const lives = [...this.#lives.values()];
    return {
      encap: sumCounters(lives.map(({ encap }) => encap)),
      decap: sumCounters(lives.map(({ decap }) => decap)),
    };
  }
}

function countedBy({ encap, decap }: AgentCounts): number {
  return countedPackets(encap) + countedPackets(decap);
}

/** The line that an agent logs last: what it forwarded and dropped. */
export function parseLastWords(log: string): AgentCounts | undefined {
  const line = /packets carried in this run encap=(\d+) decap=(\d+)(?: dropped="?([^"\n]*)"?)?/.exec(log);
  if (line === null) return undefined;
  const [, encap, decap, dropped = ''] = line;
  const direction = (name: string, packets: string): DirectionCounters => ({
    packets: Number(packets),
    bytes: 0,
    dropped: Object.fromEntries(
      dropped
        .split(', ')
        .map((one) => one.split(' '))
        .filter(([which]) => which === name)
        .map(([, reason, count]) => [reason, Number(count)]),
    ),
  });
  return { encap: direction('encap', encap), decap: direction('decap', decap) };
}
