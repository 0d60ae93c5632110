/** Figures as people read them. */
import type { Spread } from '../statistics.js';

/** Digits behind the point that any figure here is worth. */
const MOST_DECIMALS = 3;

/** Three significant digits, thousands separated: `9.87`, `0.655`, `183,000`. */
export function formatFigure(value: number): string {
  if (value === 0) return '0';
  // Of the rounded value: 9.999 is 10.0.
  const magnitude = Math.floor(Math.log10(Math.abs(Number(value.toPrecision(3)))));
  if (magnitude < 2) return value.toFixed(Math.min(2 - magnitude, MOST_DECIMALS));
  const unit = 10 ** (magnitude - 2);
  return (Math.round(value / unit) * unit).toLocaleString('en');
}

/** `9.10 – 11.4`; one figure has no range. */
export function formatRange({ min, max, count }: Spread): string {
  return count < 2 ? '' : `${formatFigure(min)} – ${formatFigure(max)}`;
}

/** `0.66 ×`. */
export function formatRatio(ratio: number): string {
  return `${ratio >= 10 ? ratio.toFixed(0) : ratio.toFixed(2)} ×`;
}

/** `2.1 – 2.3 ×`. */
export function formatRatioRange({ min, max, count }: Spread): string {
  return count < 2 ? '' : `${formatRatio(min).replace(' ×', '')} – ${formatRatio(max)}`;
}
