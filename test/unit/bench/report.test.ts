import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { appendResults, requireSameSetting } from '../../../bench/append.js';
import { comparisonLines } from '../../../bench/compare.js';
import { readReport } from '../../../bench/measures/iperf.js';
import { readResults, requireNoResults, requireWritable, writeReport } from '../../../bench/report/files.js';
import { formatFigure, formatRange, formatRatio } from '../../../bench/report/format.js';
import { goalTable } from '../../../bench/report/goals.js';
import { markdownReport } from '../../../bench/report/markdown.js';
import { plotMeasure } from '../../../bench/report/plot.js';
import { replaceReport } from '../../../bench/report/publish.js';
import { failureLines, markdownTable, tablesOfMode } from '../../../bench/report/tables.js';
import { pairsAt, ratioAt, spreadAt } from '../../../bench/results.js';
import { FlannelError, UsageError } from '../../../src/errors.js';
import { RESULTS, SAMPLES } from './results.js';

const TCP = { mode: 'offloads', measure: 'tcp', contender: 'flannelette' };

test('figures have three digits that count', () => {
  const cases: [number, string][] = [
    [0, '0'],
    [0.0123, '0.012'],
    [0.6549, '0.655'],
    [9.876, '9.88'],
    [9.998, '10.0'],
    [99.96, '100'],
    [11.44, '11.4'],
    [183.4, '183'],
    [5678, '5,680'],
    [183_456, '183,000'],
  ];
  for (const [value, text] of cases) assert.equal(formatFigure(value), text);
  assert.equal(formatRatio(0.656), '0.66 ×');
  assert.equal(formatRatio(22.4), '22 ×');
  assert.equal(formatRange({ median: 2, min: 1, max: 3, count: 3 }), '1.00 – 3.00');
  assert.equal(formatRange({ median: 2, min: 2, max: 2, count: 1 }), '');
});

test('a ratio is taken within each round, so that a machine that drifts does not show in it', () => {
  assert.deepEqual(spreadAt(SAMPLES, TCP, 'gbits'), { median: 6, min: 3, max: 12, count: 3 });
  assert.deepEqual(ratioAt(SAMPLES, TCP, { contender: 'vxlan' }, 'gbits'), {
    median: 0.75,
    min: 0.75,
    max: 0.75,
    count: 3,
  });
  // Round 2 has nothing of nebula.
  assert.deepEqual(pairsAt(SAMPLES, { ...TCP, contender: 'nebula' }, { contender: 'vxlan' }, 'gbits'), [
    [0.4, 4],
    [1.6, 16],
  ]);
  assert.equal(ratioAt(SAMPLES, TCP, { contender: 'vxlan' }, 'agentSecondsPerGB'), undefined);
});

test('a table has a line for each contender, and only columns with something in them', () => {
  const [{ title, columns, rows }] = tablesOfMode(RESULTS, 'offloads');
  assert.equal(title, 'TCP, one stream');
  assert.deepEqual(
    columns.map((column) => column.title),
    ['contender', 'MTU', 'Gbit/s', 'range', '× vxlan', 'range', 'CPU-s/GB', '× vxlan', "agents' CPU-s/GB"],
  );
  const [ours, , nebula] = rows;
  assert.deepEqual(ours.slice(0, 6), ['flannelette', '1472', '6.00', '3.00 – 12.0', '0.75 ×', '0.75 – 0.75 ×']);
  assert.equal(nebula[2], '1.00');
  assert.deepEqual(tablesOfMode(RESULTS, 'wire'), []);
  const alone = { ...RESULTS, samples: SAMPLES.filter(({ round }) => round === 2) };
  const [single] = tablesOfMode(alone, 'offloads');
  assert.ok(!single.columns.some((column) => column.title === 'range'));
  assert.equal(single.rows[2][2], 'failed');
  assert.deepEqual(failureLines(RESULTS), ['tcp, offloads, nebula: failed in 1 rounds: nothing arrived <&>']);
});

test('goals are shown where the run tells something of them, met or not', () => {
  const rows = goalTable(RESULTS).rows;
  assert.deepEqual(
    rows.map(([what, goal, median, , met]) => [what, goal, median, met]),
    [
      ['TCP, one stream', 'at least 0.75 × vxlan', '0.75 ×', 'yes'],
      ['CPU for a gigabyte', 'at most 1.70 × vxlan', '2.00 ×', 'no'],
    ],
  );
});

test('the Markdown report says where, when and how, and its tables are tables', () => {
  const report = markdownReport(RESULTS, (measure) => `plots/${measure}.svg`);
  for (const part of [
    '2026-01-02',
    'A Processor',
    'Linux 6.1.0',
    'underlay MTU 1500',
    'tso on, gro off',
    '3 rounds',
    'others used 3 %',
  ]) {
    assert.ok(report.includes(part), part);
  }
  assert.match(report, /^!\[TCP, one stream\]\(plots\/tcp\.svg\)$/m);
  assert.match(report, /^- flannelette, on: tun-tso, udp-segment; off: tun-uso; udp-segment was given up 2 times$/m);
  assert.match(report, /^## Goals$/m);
  assert.match(report, /^- tcp, offloads, nebula: failed/m);
  const wire = SAMPLES.filter(({ round }) => round === 1).map((sample) => ({ ...sample, mode: 'wire', round: 4 }));
  const both = markdownReport({ ...RESULTS, samples: [...SAMPLES, ...wire] }, () => undefined);
  assert.ok(both.includes('1 to 3 rounds in turn'));
  const table = markdownTable({ columns: [{ title: 'a' }, { title: 'b', align: 'right' }], rows: [['x|y', '1']] });
  assert.deepEqual(table, ['| a | b |', '| --- | ---: |', '| x\\|y | 1 |']);
});

test('a plot has a bar as long as its figure for each contender', () => {
  const svg = plotMeasure(RESULTS, RESULTS.measures[0]);
  assert.ok(svg !== undefined);
  const bars = [...svg.matchAll(/<rect x="[\d.]+" y="\d+" width="([\d.]+)"/g)].map(([, width]) => Number(width));
  assert.equal(bars.length, 3);
  assert.ok(Math.abs(bars[0] / bars[1] - 0.75) < 0.01);
  assert.ok(svg.includes('nebula &lt;encrypts&gt;'));
  assert.ok(svg.includes('(0.75 × vxlan)'));
  assert.equal(plotMeasure({ ...RESULTS, samples: [] }, RESULTS.measures[0]), undefined);
});

test('the files of a run can be read back, and the plot is a picture', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'bench-report-'));
  try {
    const complaints = await writeReport(folder, RESULTS);
    assert.deepEqual(await readResults(folder), RESULTS);
    assert.match(readFileSync(join(folder, 'report.md'), 'utf8'), /^# Benchmark\n/);
    assert.match(readFileSync(join(folder, 'tcp.svg'), 'utf8'), /^<svg /);
    // Where there is no converter for the platform, that is said.
    if (complaints.length === 0) {
      assert.equal(readFileSync(join(folder, 'tcp.png')).subarray(1, 4).toString(), 'PNG');
    } else {
      assert.match(complaints[0], /no PNG can be made here/);
    }
    await assert.rejects(readResults(join(folder, 'none')), UsageError);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a folder that cannot be written to is told beforehand, and looking leaves nothing', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'bench-writable-'));
  try {
    await requireWritable(join(folder, 'new', 'inner'));
    await requireWritable(folder);
    assert.deepEqual(readdirSync(folder), []);
    writeFileSync(join(folder, 'file'), 'kept');
    for (const wrong of [join(folder, 'file'), join(folder, 'file', 'inner'), '/proc/none']) {
      await assert.rejects(
        requireWritable(wrong),
        (error) => error instanceof UsageError && error.message.startsWith(`--output ${wrong} cannot be written to: `),
      );
    }
    assert.equal(readFileSync(join(folder, 'file'), 'utf8'), 'kept');
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('results that others would replace are told beforehand', () => {
  const folder = mkdtempSync(join(tmpdir(), 'bench-kept-'));
  try {
    requireNoResults(folder);
    requireNoResults(join(folder, 'none'));
    writeFileSync(join(folder, 'results.json'), 'kept');
    assert.throws(() => requireNoResults(folder), { name: 'UsageError', message: /has results already: .*--append/ });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('rounds of a later run are added after the earlier ones, if they were measured alike', () => {
  const later = {
    ...RESULTS,
    samples: SAMPLES.filter(({ round }) => round === 1),
    endedAt: '2026-01-03T00:00:00.000Z',
  };
  const both = appendResults(RESULTS, later);
  assert.equal(both.samples.length, SAMPLES.length + 3);
  assert.deepEqual([...new Set(both.samples.map(({ round }) => round))], [1, 2, 3, 4]);
  assert.equal(both.startedAt, RESULTS.startedAt);
  assert.equal(both.endedAt, later.endedAt);
  assert.equal(both.contenders.length, RESULTS.contenders.length);
  assert.throws(() => requireSameSetting(RESULTS, { ...later, seconds: 9 }), UsageError);
  const elsewhere = { ...later, machine: { ...RESULTS.machine, kernel: '6.2.0' } };
  assert.throws(() => requireSameSetting(RESULTS, elsewhere), UsageError);
});

test('a published report takes the place of the one before and leaves the page alone', () => {
  const page = 'before\n<!-- begin: written by npm run bench -- --publish -->\nold\n<!-- end -->\nafter\n';
  const once = replaceReport(page, 'new\n');
  assert.equal(once.replace(/\n+/g, '\n'), page.replace('old', 'new'));
  assert.equal(replaceReport(once, 'new\n'), once);
  assert.throws(() => replaceReport('a page', 'new'), FlannelError);
});

test('iperf3’s report is added up over both directions, and its failure is one', () => {
  const sum = (bytes: number) => ({ bytes, bits_per_second: bytes * 8 });
  const one = JSON.stringify({ end: { sum_received: sum(10) } });
  assert.deepEqual(readReport(one), { bytes: 10, bitsPerSecond: 80 });
  const both = JSON.stringify({ end: { sum_received: sum(10), sum_received_bidir_reverse: sum(5) } });
  assert.deepEqual(readReport(both), { bytes: 15, bitsPerSecond: 120 });
  for (const text of ['', '{"error":"unable to connect"}', JSON.stringify({ end: { sum_received: sum(0) } })]) {
    assert.throws(() => readReport(text), FlannelError);
  }
});

test('a comparison gives ratio, interval and verdict of each measure', () => {
  const samples = [1.19, 1.2, 1.21].flatMap((gain, index) =>
    ['this', 'base'].map((contender) => ({
      ...{ mode: 'offloads', measure: 'tcp', round: index + 1, contender },
      figures: { gbits: contender === 'this' ? gain : 1 },
    })),
  );
  const lines = comparisonLines(samples, RESULTS.measures, 'offloads', 'abc1234');
  assert.match(lines[0], /× abc1234/);
  assert.match(lines[1], /^TCP, one stream +1\.20 × +1\.18 – 1\.23 × +faster$/);
  assert.match(comparisonLines([], RESULTS.measures, 'offloads', 'abc1234')[1], /not measured/);
});
