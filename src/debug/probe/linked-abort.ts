/**
 * A controller that aborts with another signal as well, and, where that is said, when a time is over. Whoever makes it
 * aborts it when done, so that nothing hangs on the other signal any more. (`AbortSignal.any` is younger than Node 20.0.)
 */
export function linkedAbort(signal: AbortSignal, timeoutMs?: number): AbortController {
  const linked = new AbortController();
  const end = (): void => linked.abort(signal.reason);
  if (signal.aborted) end();
  signal.addEventListener('abort', end, { once: true, signal: linked.signal });
  if (timeoutMs !== undefined) {
    const timer = setTimeout(() => linked.abort(new Error('no answer in time')), timeoutMs);
    linked.signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
  }
  return linked;
}
