/**
 * Ends or holds an agent at a call of the native addon, which marks how far it has come. Loaded before the agent's own code
 * (`NODE_OPTIONS=--import=…`); `NATIVE_FAULT` says what is to happen before the n-th call of a function from the main thread:
 *
 *   NATIVE_FAULT="kill detachQueue 1"           the process kills itself
 *   NATIVE_FAULT="hold sendMessage 2 /tmp/go"   it stands still until that file is there
 *
 * Each writes a line to standard error: `at CALL`.
 */
import { existsSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';

type Call = (...args: unknown[]) => unknown;

const ADDON = fileURLToPath(new URL('../../../build/Release/flannelette.node', import.meta.url));
const LOOK_EVERY_MS = 5;

const fault = process.env.NATIVE_FAULT;
if (isMainThread && fault !== undefined) {
  const [what, name, number, file] = fault.split(' ');
  const require = createRequire(import.meta.url);
  const addon = require(ADDON) as Record<string, unknown>;
  const real = addon[name];
  const cached = require.cache[ADDON];
  if (typeof real !== 'function' || cached === undefined) throw new Error(`the addon has no ${name}`);
  let calls = 0;
  const marked: Call = (...args) => {
    if (++calls === Number(number)) {
      writeSync(2, `at ${name}\n`);
      if (what === 'kill') process.kill(process.pid, 'SIGKILL');
      const moment = new Int32Array(new SharedArrayBuffer(4));
      while (!existsSync(file)) Atomics.wait(moment, 0, 0, LOOK_EVERY_MS);
    }
    return (real as Call)(...args);
  };
  cached.exports = { ...addon, [name]: marked };
}
