import type { CheckResult } from '../debug/doctor/check.js';
import type { Paint } from './paint.js';

/** More skipped checks than these are one line: they all wait for the same, which stands above. */
const SKIPS_SHOWN = 3;

/**
 * The checks for people: a line each, and below one that is not well what it stands on and what to do. Checks that were
 * skipped because nearly nothing can be looked at, such as without a daemon, are told in one line.
 */
export function doctorReport(checks: readonly CheckResult[], paint: Paint): string[] {
  const skipped = checks.filter(({ status }) => status === 'skip');
  const folded = skipped.length > SKIPS_SHOWN ? skipped : [];
  const shown = checks.filter((check) => !folded.includes(check));
  const width = Math.max(...shown.map(({ id }) => id.length));
  const indent = ' '.repeat(width + 8);
  const lines = shown.flatMap(({ id, status, summary, remedy, evidence }) => [
    `${wordStatus(status, paint)}  ${id.padEnd(width)}  ${status === 'skip' ? paint.faint(summary) : summary}`,
    ...(status === 'warn' || status === 'fail' ? evidence.map((line) => `${indent}${line}`) : []),
    ...(remedy === null ? [] : [`${indent}→ ${remedy}`]),
  ]);
  if (folded.length > 0) {
    const ids = folded.map(({ id }) => id).join(', ');
    lines.push(
      `${wordStatus('skip', paint)}  ${paint.faint(`${folded.length} checks had nothing to look at: ${ids}`)}`,
    );
  }
  return [...lines, '', summary(checks, paint)];
}

function wordStatus(status: CheckResult['status'], paint: Paint): string {
  const text = status.padEnd(4);
  switch (status) {
    case 'ok':
      return paint.good(text);
    case 'warn':
      return paint.warning(text);
    case 'fail':
      return paint.bad(text);
    case 'skip':
      return paint.faint(text);
  }
}

function summary(checks: readonly CheckResult[], paint: Paint): string {
  const count = (wanted: CheckResult['status']): number => checks.filter(({ status }) => status === wanted).length;
  const warnings = `${count('warn')} ${count('warn') === 1 ? 'warning' : 'warnings'}`;
  const skipped = count('skip') === 0 ? '' : `, ${count('skip')} skipped`;
  if (count('fail') > 0) return paint.bad(`${count('fail')} failed, ${warnings}${skipped}`);
  if (count('warn') > 0) return paint.warning(`nothing failed, ${warnings}${skipped}`);
  return paint.good(`this node is well${skipped}`);
}
