/** `npm run simulate -- --steps N --seed S`: the lease logic of several nodes against a model of etcd. */
import { parseArgs } from 'node:util';
import { errorMessage } from '../../src/errors.js';
import { simulate } from './simulate.js';

const USAGE = 'usage: npm run simulate -- [--steps N] [--seed S]';

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function wholeNumber(flag: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new Error(`--${flag} ${text}: expected a whole number; ${USAGE}`);
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { steps: { type: 'string' }, seed: { type: 'string' } } });
  const steps = wholeNumber('steps', values.steps ?? '1000000');
  const seed = wholeNumber('seed', values.seed ?? String(Date.now() % 2 ** 31));
  print(`simulating ${steps} steps, seed ${seed}`);
  const startedAt = performance.now();
  let told = 0;
  const result = await simulate(steps, seed, (done) => {
    if (done - told < 1_000_000) return;
    told = done;
    print(`${done} steps`);
  });
  const seconds = (performance.now() - startedAt) / 1000;
  const faults = [...result.happened].sort(([, a], [, b]) => b - a).map(([kind, count]) => `${kind} ${count}`);
  print(
    `${result.steps} steps in ${result.worlds} worlds, ${result.hours.toFixed(0)} hours of theirs, in ${seconds.toFixed(0)} s: ` +
      'nothing that must not be',
  );
  print(`what went wrong in them: ${faults.join(', ')}`);
}

main().catch((error: unknown) => {
  process.stderr.write(`simulate: ${errorMessage(error)}\n`);
  process.exitCode = 1;
});
