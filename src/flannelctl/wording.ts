/** Words for quantities: how times, sizes and counts read in the tables of flannelctl. */

const SECOND_MS = 1000;
const UNITS: readonly (readonly [seconds: number, name: string])[] = [
  [86_400, 'd'],
  [3600, 'h'],
  [60, 'min'],
  [1, 's'],
];

/** A time span in its two largest units: `23 h 59 min`, `4 s`. Negative spans count as 0. */
export function wordDuration(milliseconds: number): string {
  let rest = Math.max(0, Math.floor(milliseconds / SECOND_MS));
  const parts: string[] = [];
  for (const [seconds, name] of UNITS) {
    const count = Math.floor(rest / seconds);
    rest -= count * seconds;
    if (count > 0) parts.push(`${count} ${name}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.length === 0 ? '0 s' : parts.join(' ');
}

/** When a lease ends, seen from `nowMs`: `in 23 h 59 min`, or `2 min ago` for one that has run out. */
export function wordMoment(iso: string, nowMs: number): string {
  const difference = Date.parse(iso) - nowMs;
  if (Number.isNaN(difference)) return iso;
  return difference >= 0 ? `in ${wordDuration(difference)}` : `${wordDuration(-difference)} ago`;
}

/** A count with its digits in groups of three: `1,234,567`. */
export function wordCount(count: number): string {
  return String(Math.trunc(count)).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** A count and its noun: `1 lease`, `3 leases`. */
export function wordPlural(count: number, noun: string): string {
  return `${wordCount(count)} ${noun}${count === 1 ? '' : 's'}`;
}

/** A size in bytes with a binary prefix: `512 B`, `1.5 MiB`. */
export function wordBytes(bytes: number): string {
  const prefixes = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let size = bytes;
  let index = 0;
  while (size >= 1024 && index < prefixes.length - 1) {
    size /= 1024;
    index += 1;
  }
  return `${index === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${prefixes[index]}`;
}
