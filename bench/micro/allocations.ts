import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** V8's own collector; it can be had at run time without starting Node with a flag. */
function collector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

/**
 * Bytes that one call of `operation` leaves on the JavaScript heap for the collector: what the heap grew by over many
 * calls, after the code was warmed up. The smallest of several tries, since the engine itself allocates now and then.
 */
export function bytesPerOperation(operation: () => void): number {
  const collect = collector();
  const calls = 2_000;
  for (let call = 0; call < 10 * calls; call++) operation();
  let least = Infinity;
  for (let attempt = 0; attempt < 5; attempt++) {
    collect();
    const before = process.memoryUsage().heapUsed;
    for (let call = 0; call < calls; call++) operation();
    least = Math.min(least, process.memoryUsage().heapUsed - before);
  }
  // Asking for the heap's size takes some memory itself: anything below a byte a call is that.
  return Math.max(0, Math.floor(least / calls));
}
