import { errorMessage } from '../../errors.js';

/** How a check comes out: the shape of `flannelctl doctor --json`. */
export interface CheckResult {
  /** Stable; `docs/debugging.md` lists all of them. */
  readonly id: string;
  readonly status: 'ok' | 'warn' | 'fail' | 'skip';
  /** What was found, in one line. */
  readonly summary: string;
  /** What to do about it, for `warn` and `fail`; else `null`. */
  readonly remedy: string | null;
  /** What the summary stands on, a line each. */
  readonly evidence: readonly string[];
}

/** Something that was looked for: what was found, or why it could not be. */
export type Fact<T> = { readonly known: true; readonly value: T } | { readonly known: false; readonly why: string };

/** A check before it has its id: from facts to a result, changing nothing and asking nobody. */
export type Finding = Omit<CheckResult, 'id'>;

export const ok = (summary: string, evidence: readonly string[] = []): Finding => ({
  status: 'ok',
  summary,
  remedy: null,
  evidence,
});
export const skip = (summary: string): Finding => ({ status: 'skip', summary, remedy: null, evidence: [] });
export const warn = (summary: string, remedy: string, evidence: readonly string[] = []): Finding => ({
  status: 'warn',
  summary,
  remedy,
  evidence,
});
export const fail = (summary: string, remedy: string, evidence: readonly string[] = []): Finding => ({
  status: 'fail',
  summary,
  remedy,
  evidence,
});

/** Looks for something; what is thrown says why it is not known. */
export async function findOut<T>(look: () => Promise<T>): Promise<Fact<T>> {
  try {
    return { known: true, value: await look() };
  } catch (error) {
    return { known: false, why: errorMessage(error) };
  }
}
