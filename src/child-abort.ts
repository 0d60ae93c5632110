/** An `AbortController` that is aborted with its parent, too. (`AbortSignal.any` is younger than Node 20.0.) */
export interface ChildAbort {
  readonly signal: AbortSignal;
  /** Aborts the child alone, and lets go of the parent; calling it again is harmless. */
  abort(reason?: unknown): void;
}

/**
 * Makes a child; whoever is done with it calls `abort`, so that a parent that lives long does not collect listeners.
 * @param timeoutMs - after which it is aborted in any case
 */
export function childAbort(parent: AbortSignal, timeoutMs?: number): ChildAbort {
  const child = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const abort = (reason?: unknown): void => {
    clearTimeout(timer);
    parent.removeEventListener('abort', follow);
    child.abort(reason);
  };
  const follow = (): void => abort(parent.reason);
  if (parent.aborted) follow();
  else {
    parent.addEventListener('abort', follow, { once: true });
    if (timeoutMs !== undefined) timer = setTimeout(() => abort(new Error('no answer in time')), timeoutMs);
  }
  return { signal: child.signal, abort };
}
