/** The results as tables: one for each measure in each mode, for terminals and for Markdown. */
import { formatTable, type Column } from '../../src/flannelctl/table.js';
import type { Paint } from '../../src/flannelctl/paint.js';
import { failuresAt, ratioAt, spreadAt, type MeasureDescription, type Place, type Results } from '../results.js';
import { formatFigure, formatRange, formatRatio, formatRatioRange } from './format.js';

/** What ratios are taken to. */
export const BASE_CONTENDER = 'vxlan';

export interface ReportTable {
  readonly title: string;
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly string[])[];
}

const NOTHING = '–';

/** Tables of all measures of a mode that has any samples. */
export function tablesOfMode(results: Results, mode: string): ReportTable[] {
  return results.measures
    .filter(({ name }) => results.samples.some((sample) => sample.mode === mode && sample.measure === name))
    .map((measure) => measureTable(results, mode, measure));
}

/** A column and the cell of each contender in it. */
interface FilledColumn extends Column {
  readonly cells: readonly string[];
}

function measureTable(results: Results, mode: string, measure: MeasureDescription): ReportTable {
  const { samples } = results;
  const contenders = results.contenders.filter(({ name }) =>
    samples.some((one) => one.mode === mode && one.measure === measure.name && one.contender === name),
  );
  const placeOf = (contender: string): Place => ({ mode, measure: measure.name, contender });
  const column = (title: string, cell: (place: Place) => string | undefined): FilledColumn => ({
    title,
    align: 'right',
    cells: contenders.map(({ name }) => cell(placeOf(name)) ?? ''),
  });
  const figureColumns = measure.figures.flatMap((figure, index) => {
    const spread = (place: Place) => spreadAt(samples, place, figure.name);
    const ratio = (place: Place) =>
      figure.compared ? ratioAt(samples, place, { contender: BASE_CONTENDER }, figure.name) : undefined;
    const main = index === 0;
    const missing = (place: Place): string => (main && failuresAt(samples, place) !== undefined ? 'failed' : NOTHING);
    return [
      column(
        figure.heading,
        (place) => optional(spread(place), ({ median }) => formatFigure(median)) ?? missing(place),
      ),
      ...(main ? [column('range', (place) => optional(spread(place), formatRange))] : []),
      column(`× ${BASE_CONTENDER}`, (place) => optional(ratio(place), ({ median }) => formatRatio(median))),
      ...(main ? [column('range', (place) => optional(ratio(place), formatRatioRange))] : []),
    ];
  });
  const columns: FilledColumn[] = [
    { title: 'contender', cells: contenders.map(({ title }) => title) },
    { title: 'MTU', align: 'right', cells: contenders.map(({ mtuBytes }) => String(mtuBytes)) },
    // What no contender has anything in, such as ranges after one round, is left out.
    ...figureColumns.filter(({ cells }) => cells.some((cell) => cell !== '')),
  ];
  return {
    title: measure.title,
    columns: columns.map(({ title, align }) => ({ title, align })),
    rows: contenders.map((_, row) => columns.map(({ cells }) => cells[row])),
  };
}

function optional<Value>(value: Value | undefined, show: (value: Value) => string): string | undefined {
  return value === undefined ? undefined : show(value);
}

/** What could not be measured, a line each. */
export function failureLines(results: Results): string[] {
  return results.modes.flatMap(({ name: mode }) =>
    results.measures.flatMap(({ name: measure }) =>
      results.contenders.flatMap(({ name: contender }) => {
        const failures = failuresAt(results.samples, { mode, measure, contender });
        if (failures === undefined) return [];
        return [`${measure}, ${mode}, ${contender}: failed in ${failures.count} rounds: ${failures.reason}`];
      }),
    ),
  );
}

export function textTable({ title, columns, rows }: ReportTable, paint: Paint): string[] {
  return [paint.strong(title), ...formatTable(columns, rows, paint).map((line) => `  ${line}`), ''];
}

export function markdownTable({ columns, rows }: Omit<ReportTable, 'title'>): string[] {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [
    line(columns.map(({ title }) => title)),
    line(columns.map(({ align }) => (align === 'right' ? '---:' : '---'))),
    ...rows.map(line),
  ];
}
