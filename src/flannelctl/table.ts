import type { Paint } from './paint.js';

/** A column of {@link formatTable}. */
export interface Column {
  readonly title: string;
  /** Numbers stand at the right, so that their digits line up. Default `left`. */
  readonly align?: 'left' | 'right';
}

/**
 * Lays rows out under their titles, each column as wide as its widest cell, two spaces between columns and none at the
 * end of a line. Cells are plain text; colour comes on afterwards, by `paintCell`, so that it takes no width.
 */
export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  paint: Paint,
  paintCell: (row: number, column: number, text: string) => string = (_row, _column, text) => text,
): string[] {
  const widths = columns.map(({ title }, column) =>
    rows.reduce((widest, row) => Math.max(widest, row[column].length), title.length),
  );
  const line = (cells: readonly string[], dress: (column: number, text: string) => string): string =>
    cells
      .map((cell, column) => {
        const padding = ' '.repeat(widths[column] - cell.length);
        const text = dress(column, cell);
        if (columns[column].align === 'right') return padding + text;
        return column === columns.length - 1 ? text : text + padding;
      })
      .join('  ')
      .trimEnd();
  return [
    line(
      columns.map(({ title }) => title),
      (_column, text) => paint.strong(text),
    ),
    ...rows.map((row, index) => line(row, (column, text) => paintCell(index, column, text))),
  ];
}

/** Lays out `name  value` pairs, the values in one column; a value of several lines goes on below itself. */
export function formatFacts(facts: readonly (readonly [name: string, value: string | readonly string[]])[]): string[] {
  const width = facts.reduce((widest, [name]) => Math.max(widest, name.length), 0);
  return facts.flatMap(([name, value]) => {
    const lines = typeof value === 'string' ? [value] : value;
    return lines.map((line, index) => `${(index === 0 ? name : '').padEnd(width)}  ${line}`.trimEnd());
  });
}
