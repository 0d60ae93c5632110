/** Bar charts in SVG: a measure's main figure, a group of bars for each mode of the cable. */
import { ratioAt, spreadAt, type Place, type Results, type MeasureDescription } from '../results.js';
import type { Spread } from '../statistics.js';
import { formatFigure, formatRatio } from './format.js';
import { BASE_CONTENDER } from './tables.js';

const WIDTH = 860;
const MARGIN = 20;
const TITLE_HEIGHT = 58;
const GROUP_TITLE_HEIGHT = 30;
const BAR_HEIGHT = 16;
const BAR_STEP = 24;
const VALUE_WIDTH = 170;
const FONT_SIZE = 13;
/** Of a character of this font, on average and with some room. */
const CHARACTER_WIDTH = 7.4;
const FONT = 'font-family="\'DejaVu Sans\', Verdana, sans-serif"';

const COLOURS = { own: '#1764ab', rung: '#7fb2dd', base: '#4d4d4d', other: '#b3b3b3' } as const;

interface Bar {
  readonly label: string;
  readonly spread: Spread;
  readonly ratio: number | undefined;
  readonly colour: string;
}

interface Group {
  readonly title: string;
  readonly bars: readonly Bar[];
}

/** @returns the chart's SVG text; `undefined` when there is nothing to show */
export function plotMeasure(results: Results, measure: MeasureDescription): string | undefined {
  const groups = results.modes
    .map(({ name, title }) => ({ title: `cable: ${title}`, bars: barsOf(results, name, measure) }))
    .filter(({ bars }) => bars.length > 0);
  if (groups.length === 0) return undefined;
  const [{ unit, title, better }] = measure.figures;
  return drawChart(measure.title, `${title}, ${unit}; ${better} is better`, groups);
}

function barsOf(results: Results, mode: string, measure: MeasureDescription): Bar[] {
  const figure = measure.figures[0].name;
  return results.contenders.flatMap(({ name, title }) => {
    const place: Place = { mode, measure: measure.name, contender: name };
    const spread = spreadAt(results.samples, place, figure);
    if (spread === undefined) return [];
    const ratio = ratioAt(results.samples, place, { contender: BASE_CONTENDER }, figure)?.median;
    return [{ label: title, spread, ratio: name === BASE_CONTENDER ? undefined : ratio, colour: colourOf(name) }];
  });
}

function colourOf(contender: string): string {
  if (contender === 'flannelette') return COLOURS.own;
  if (contender.startsWith('flannelette-')) return COLOURS.rung;
  return contender === BASE_CONTENDER ? COLOURS.base : COLOURS.other;
}

function drawChart(title: string, subtitle: string, groups: readonly Group[]): string {
  const bars = groups.flatMap((group) => group.bars);
  const labelWidth = Math.max(...bars.map(({ label }) => label.length)) * CHARACTER_WIDTH;
  const left = MARGIN + labelWidth + 10;
  const scale = (WIDTH - left - VALUE_WIDTH - MARGIN) / Math.max(...bars.map(({ spread }) => spread.max));
  // What machines drift by between rounds makes it another figure than the ratio of two bars.
  const hasRatios = bars.some(({ ratio }) => ratio !== undefined);
  const ofRatios = hasRatios ? `; × ${BASE_CONTENDER}: median of the rounds’ ratios` : '';
  const parts = [
    text(MARGIN, 28, title, 'font-size="17" font-weight="bold" fill="#222"'),
    text(MARGIN, 48, `${subtitle}; bar: median, line: lowest to highest round${ofRatios}`, 'fill="#666"'),
  ];
  let y = TITLE_HEIGHT;
  for (const group of groups) {
    parts.push(text(MARGIN, y + 20, group.title, 'font-weight="bold" fill="#222"'));
    y += GROUP_TITLE_HEIGHT;
    for (const bar of group.bars) {
      parts.push(...drawBar(bar, left, y, scale));
      y += BAR_STEP;
    }
    y += 8;
  }
  const height = y + MARGIN - 8;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" ${FONT} font-size="${FONT_SIZE}">`,
    `<title>${escape(title)}</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

function drawBar({ label, spread, ratio, colour }: Bar, left: number, y: number, scale: number): string[] {
  const x = (value: number): string => (left + value * scale).toFixed(1);
  const middle = y + BAR_HEIGHT / 2;
  const baseline = y + BAR_HEIGHT - 3;
  const value =
    formatFigure(spread.median) + (ratio === undefined ? '' : `  (${formatRatio(ratio)} ${BASE_CONTENDER})`);
  const parts = [
    text(left - 8, baseline, label, 'text-anchor="end" fill="#222"'),
    `<rect x="${left.toFixed(1)}" y="${y}" width="${(spread.median * scale).toFixed(1)}" height="${BAR_HEIGHT}" fill="${colour}"/>`,
    text(Number(x(spread.max)) + 8, baseline, value, 'fill="#222"'),
  ];
  if (spread.count > 1) {
    parts.push(
      `<path d="M${x(spread.min)} ${middle}H${x(spread.max)}M${x(spread.min)} ${middle - 4}v8M${x(spread.max)} ${middle - 4}v8" stroke="#d95f02" stroke-width="1.5" fill="none"/>`,
    );
  }
  return parts;
}

function text(x: number, y: number, content: string, attributes: string): string {
  return `<text x="${x.toFixed(1)}" y="${y}" ${attributes}>${escape(content)}</text>`;
}

function escape(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
