import { CommandError } from '../command.js';
import type { FilterChange } from './packet-filter.js';

/** What a look at the kernel's rules showed to be missing, stale, doubled or out of order. */
export interface Transaction {
  /** For the tool's standard input, which carries it out as a whole or not at all. */
  readonly input: string;
  readonly change: FilterChange;
}

/** How often to look again after writing, or after a refusal. Each time, the other writer has come a step further. */
const MAX_WRITES = 10;
/** How many refusals in a row are put down to another writer. */
const MAX_REFUSALS = 5;

/**
 * Looks, writes what is to be changed, and looks again, until nothing is left to do.
 *
 * The tools lock the rules while they write, not from a look to the write that rests on it. Two agents that start at
 * the same time may both find no jump and both add one. So each looks again after its write: whoever wrote last sees
 * all that the others did, and takes out what is doubled. Both may do that at once, too; therefore all copies are
 * deleted and one is added in one transaction, which fails for the second, since there are fewer copies by then.
 * @param look `undefined` when all is as wanted
 * @throws what `look` and `write` throw
 */
export async function settle(
  look: () => Promise<Transaction | undefined>,
  write: (input: string) => Promise<void>,
): Promise<FilterChange> {
  let total: FilterChange = { added: 0, removed: 0, dropped: [] };
  let written: string | undefined;
  let refusals = 0;
  for (let writes = 0; writes < MAX_WRITES; writes++) {
    const transaction = await look();
    // The same again means that this machine shows a rule otherwise than it was written. It is there, so let it be.
    if (transaction === undefined || transaction.input === written) break;
    try {
      await write(transaction.input);
    } catch (error) {
      if (++refusals < MAX_REFUSALS && error instanceof CommandError && error.reason === 'failed') continue;
      throw error;
    }
    refusals = 0;
    written = transaction.input;
    total = sum(total, transaction.change);
  }
  return total;
}

function sum(a: FilterChange, b: FilterChange): FilterChange {
  return { added: a.added + b.added, removed: a.removed + b.removed, dropped: [...a.dropped, ...b.dropped] };
}
