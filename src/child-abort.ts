/** An `AbortController` that is aborted with its parent, too. */
export interface ChildAbort {
  readonly signal: AbortSignal;
  /** Aborts the child alone, and lets go of the parent; calling it again is harmless. */
  abort(reason?: unknown): void;
}

/** Makes a child; whoever is done with it calls `abort`, so that a parent that lives long does not collect listeners. */
export function childAbort(parent: AbortSignal): ChildAbort {
  const child = new AbortController();
  const follow = (): void => child.abort(parent.reason);
  if (parent.aborted) follow();
  else parent.addEventListener('abort', follow, { once: true });
  return {
    signal: child.signal,
    abort(reason) {
      parent.removeEventListener('abort', follow);
      child.abort(reason);
    },
  };
}
