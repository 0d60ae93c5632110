/**
 * `npm run bench:micro`: what is spent on a packet, step by step, in TypeScript and in native code: nanoseconds, and bytes
 * allocated (which must be none). Ratios between lines of one run are worth more than the figures themselves.
 */
import benny from 'benny';
import { bytesPerOperation } from './allocations.js';
import { measureNative } from './native-subjects.js';
import type { Row } from './row.js';
import { decapWalk, encapWalk, fullChecksum, headerEdit, lookup, tapBatch, type Subject } from './subjects.js';

const subjects: readonly Subject[] = [
  lookup(10),
  lookup(1_000),
  lookup(65_535),
  headerEdit(),
  encapWalk(1),
  encapWalk(100),
  decapWalk(1),
  decapWalk(100),
  tapBatch(0),
  tapBatch(1000),
  fullChecksum(),
];

async function measure(): Promise<Row[]> {
  const rows: Row[] = [];
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

print([...(await measure()), ...(await measureNative())]);
