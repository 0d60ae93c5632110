import assert from 'node:assert/strict';
import { test } from 'node:test';
import { showInPlace } from '../../../src/flannelctl/terminal.js';

function shown(lines: readonly string[], size: { rows?: number; columns?: number }): string {
  let text = '';
  showInPlace({ ...size, isTTY: true, write: (more) => (text += String(more)) }, lines);
  assert.ok(text.startsWith('\x1b[H\x1b[J'));
  return text.slice(6);
}

test('what is shown in place neither wraps nor scrolls', () => {
  assert.equal(shown(['12345', '\x1b[31m123456\x1b[39m', 'three'], { rows: 3, columns: 5 }), '12345\n12345\n');
  assert.equal(shown(['\x1b[1mTITLE\x1b[22m'], { rows: 24, columns: 5 }), '\x1b[1mTITLE\x1b[22m\n');
});

test('a terminal that does not know its size is shown everything', () => {
  const lines = Array.from({ length: 100 }, () => 'x'.repeat(300));
  for (const size of [{}, { rows: 0, columns: 0 }]) assert.equal(shown(lines, size), `${lines.join('\n')}\n`);
});
