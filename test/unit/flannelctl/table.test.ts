import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import fc from 'fast-check';
import { paintFor } from '../../../src/flannelctl/paint.js';
import { formatFacts, formatTable } from '../../../src/flannelctl/table.js';
import { wordBytes, wordCount, wordDuration, wordMoment, wordPlural } from '../../../src/flannelctl/wording.js';

const plain = paintFor({ write: () => undefined }, {});
const terminal = { write: () => undefined, isTTY: true };

test('columns line up under their titles, numbers at the right, nothing trails', () => {
  const rows = [
    ['eth0', '7', 'x'],
    ['flannel0', '1,234', ''],
  ];
  const columns = [{ title: 'NAME' }, { title: 'N', align: 'right' as const }, { title: 'LAST' }];
  assert.deepEqual(formatTable(columns, rows, plain), [
    'NAME          N  LAST',
    'eth0          7  x',
    'flannel0  1,234',
  ]);
});

test('every cell of a column starts at the same place, whatever the cells hold', () => {
  const word = fc.stringMatching(/^[a-z]{1,12}$/);
  fc.assert(
    fc.property(fc.array(fc.tuple(word, word), { minLength: 1, maxLength: 20 }), (rows) => {
      const lines = formatTable([{ title: 'A' }, { title: 'B' }], rows, plain);
      const start = lines[0].indexOf('B');
      rows.forEach(([, second], index) => assert.equal(lines[index + 1].slice(start), second));
    }),
  );
});

test('colour takes no width', () => {
  const coloured = formatTable([{ title: 'A' }, { title: 'B' }], [['x', 'y']], paintFor(terminal, {}), (_r, _c, text) =>
    paintFor(terminal, {}).good(text),
  );
  assert.deepEqual(
    coloured.map((line) => stripVTControlCharacters(line)),
    ['A  B', 'x  y'],
  );
});

test('colours are for terminals, and NO_COLOR and a dumb terminal switch them off', () => {
  assert.equal(paintFor(terminal, {}).bad('x'), '\x1b[31mx\x1b[39m');
  assert.equal(paintFor(terminal, { NO_COLOR: '1' }).bad('x'), 'x');
  assert.equal(paintFor(terminal, { NO_COLOR: '' }).bad('x'), '\x1b[31mx\x1b[39m');
  assert.equal(paintFor(terminal, { TERM: 'dumb' }).bad('x'), 'x');
  assert.equal(plain.bad('x'), 'x');
});

test('facts stand in one column, and a value of several lines below itself', () => {
  assert.deepEqual(
    formatFacts([
      ['State', 'ready'],
      ['Lease', ['a', 'b']],
    ]),
    ['State  ready', 'Lease  a', '       b'],
  );
});

test('times, counts and sizes read as people write them', () => {
  assert.equal(wordDuration(0), '0 s');
  assert.equal(wordDuration(-5000), '0 s');
  assert.equal(wordDuration(59_999), '59 s');
  assert.equal(wordDuration(3_600_000), '1 h');
  assert.equal(wordDuration(3_605_000), '1 h');
  assert.equal(wordDuration(86_399_000), '23 h 59 min');
  assert.equal(wordDuration(90_000_000), '1 d 1 h');
  assert.equal(wordMoment('1970-01-01T00:01:00Z', 0), 'in 1 min');
  assert.equal(wordMoment('1970-01-01T00:01:00Z', 62_000), '2 s ago');
  assert.equal(wordMoment('soon', 0), 'soon');
  assert.equal(wordCount(1_234_567), '1,234,567');
  assert.equal(wordCount(12), '12');
  assert.equal(wordPlural(1, 'lease'), '1 lease');
  assert.equal(wordPlural(0, 'lease'), '0 leases');
  assert.equal(wordBytes(512), '512 B');
  assert.equal(wordBytes(1536), '1.5 KiB');
  assert.equal(wordBytes(200 * 1024 * 1024), '200 MiB');
});
