/** `npm run fuzz`: libFuzzer over the native code, and a table of what it did. */
import { join } from 'node:path';
import { runProgram } from '../../bench/program.js';
import { paintFor } from '../../src/flannelctl/paint.js';
import { formatTable } from '../../src/flannelctl/table.js';
import { ROOT } from '../harness/daemon.js';
import { buildFuzzTargets } from './build.js';
import { makeOwnFolder } from './own-folder.js';
import { parseFuzzOptions } from './options.js';
import { runTarget, type FuzzResult } from './run-target.js';

const FOLDER = join(ROOT, 'dist/fuzz');

process.exitCode = await runProgram('fuzz', fuzz, 'the inputs that it came upon are kept in dist/fuzz');

async function fuzz(signal: AbortSignal): Promise<number> {
  const options = parseFuzzOptions(process.argv.slice(2), (text) => void process.stdout.write(text));
  if (options === undefined) return 0;
  const { targets, limit, seed } = options;
  makeOwnFolder(FOLDER);
  process.stderr.write(`fuzz: compiling ${targets.length === 1 ? '1 target' : `${targets.length} targets`}\n`);
  const programs = await buildFuzzTargets(targets, join(FOLDER, 'programs'));
  const results: FuzzResult[] = [];
  for (const target of targets) {
    process.stderr.write(`fuzz: ${target.name} with seed ${seed}\n`);
    results.push(await runTarget(target, programs.get(target.name) ?? '', FOLDER, limit, seed, signal));
  }
  process.stdout.write(`${report(results).join('\n')}\n`);
  return results.some(({ complaint }) => complaint !== undefined) ? 1 : 0;
}

function report(results: readonly FuzzResult[]): string[] {
  const number = (value: number): string => value.toLocaleString('en-US', { maximumFractionDigits: 0 });
  const sum = (field: 'executions' | 'seconds'): number => results.reduce((total, result) => total + result[field], 0);
  const found = results.reduce((total, { findings }) => total + findings.length, 0);
  const table = formatTable(
    [
      { title: 'TARGET' },
      { title: 'EXECUTIONS', align: 'right' },
      { title: 'SECONDS', align: 'right' },
      { title: 'FINDINGS', align: 'right' },
    ],
    [
      ...results.map(({ target, executions, seconds, findings }) => [
        target,
        number(executions),
        number(seconds),
        number(findings.length),
      ]),
      ['together', number(sum('executions')), number(sum('seconds')), number(found)],
    ],
    paintFor(process.stdout, process.env),
  );
  const complaints = results
    .filter(({ complaint }) => complaint !== undefined)
    .flatMap(({ target, complaint, findings }) => [`${target}: ${complaint}`, ...findings.map((path) => `  ${path}`)]);
  return [...table, ...complaints];
}
