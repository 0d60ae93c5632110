import { stripVTControlCharacters } from 'node:util';
import type { TextSink } from './context.js';

/** Of ECMA-48: the cursor to the top left corner, and everything below it erased. */
const CLEAR_SCREEN = '\x1b[H\x1b[J';

/**
 * Shows lines in place of what a terminal showed: no more of them than it has rows, and none longer than it is wide, for
 * a line that wraps or scrolls would push the first ones out. A line that is cut loses its colours.
 */
export function showInPlace(sink: TextSink, lines: readonly string[]): void {
  // A terminal that does not know its size says 0.
  const rows = sink.rows || Infinity;
  const columns = sink.columns || Infinity;
  const shown = lines.slice(0, Math.max(1, rows - 1)).map((line) => {
    const plain = stripVTControlCharacters(line);
    return plain.length > columns ? plain.slice(0, columns) : line;
  });
  sink.write(`${CLEAR_SCREEN}${shown.map((line) => `${line}\n`).join('')}`);
}
