/**
 * `npm run bench:micro`: what is spent on a packet, step by step, in TypeScript and in native code: nanoseconds, and bytes
 * allocated (which must be none). Ratios between lines of one run are worth more than the figures themselves.
 */
import benny from 'benny';
import { Command } from 'commander';
import { UsageError } from '../../src/errors.js';
import { parseCommandLine } from '../command-line.js';
import { reportErrors } from '../program.js';
import { bytesPerOperation } from './allocations.js';
import { measureNative } from './native-subjects.js';
import type { Row } from './row.js';
import {
  classification,
  decapWalk,
  encapWalk,
  fullChecksum,
  headerEdit,
  lookup,
  tapBatch,
  type Subject,
} from './subjects.js';

function buildCommand(): Command {
  return new Command('npm run bench:micro --')
    .usage('[WORD…]')
    .description(
      'Times the steps that every packet pays for, in TypeScript and in native code, and what each allocates.',
    )
    .helpOption('-h, --help', 'explain and exit')
    .argument('[WORD...]', 'only the steps whose names contain one of these')
    .addHelpText('after', EXAMPLES)
    .configureHelp({ helpWidth: 110 });
}

const EXAMPLES = `
Examples:
  npm run bench:micro                      all steps; about a minute
  npm run bench:micro -- lookup checksum   those with one of these words in their names

Exit status: 0 done, 1 it failed, 2 the command line is wrong.`;

function subjectsNamed(words: readonly string[]): Subject[] {
  const all = [
    lookup(10),
    lookup(1_000),
    lookup(65_535),
    classification(),
    headerEdit(),
    encapWalk(1),
    encapWalk(100),
    decapWalk(1),
    decapWalk(100),
    tapBatch(0),
    tapBatch(1000),
    fullChecksum(),
  ];
  if (words.length === 0) return all;
  return all.filter(({ name }) => words.some((word) => name.toLowerCase().includes(word.toLowerCase())));
}

async function measure(subjects: readonly Subject[]): Promise<Row[]> {
  const rows: Row[] = [];
  if (subjects.length === 0) return rows;
  await benny.suite(
    'micro',
    ...subjects.map((subject) => benny.add(subject.name, () => subject.run())),
    benny.complete((summary) => {
      for (const result of summary.results) {
        const subject = subjects.find(({ name }) => name === result.name);
        if (subject === undefined) continue;
        rows.push({
          name: result.name,
          nanoseconds: 1e9 / (result.ops * subject.unitsPerCall),
          marginPercent: result.margin,
          bytes: bytesPerOperation(() => subject.run()) / subject.unitsPerCall,
        });
      }
    }),
  );
  return rows;
}

function print(rows: readonly Row[]): void {
  const width = Math.max(...rows.map(({ name }) => name.length));
  const lines = [
    `${'EACH'.padEnd(width)}  ${'TIME'.padStart(11)}  ${'MARGIN'.padStart(7)}  ALLOCATED`,
    ...rows.map(
      ({ name, nanoseconds, marginPercent, bytes }) =>
        `${name.padEnd(width)}  ${`${nanoseconds.toFixed(1)} ns`.padStart(11)}  ${`±${marginPercent.toFixed(1)} %`.padStart(7)}  ${bytes} bytes`,
    ),
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}

process.exitCode = await reportErrors('bench:micro', async () => {
  const command = parseCommandLine(buildCommand(), process.argv.slice(2), (text) => void process.stdout.write(text));
  if (command === undefined) return 0;
  const words = command.args;
  const rows = [...(await measure(subjectsNamed(words))), ...(await measureNative(words))];
  if (rows.length === 0)
    throw new UsageError(
      `no step has ${words.join(' or ')} in its name: try lookup, checksum, merge, or no word for all`,
    );
  print(rows);
  return 0;
});
