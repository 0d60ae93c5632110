/** Puts a run's report into docs/performance.md, between two marks, with its plots beside the repository's other files. */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FlannelError } from '../../src/errors.js';
import type { Results } from '../results.js';
import { writeReport } from './files.js';
import { markdownReport } from './markdown.js';
import { plotMeasure } from './plot.js';

const BEGIN = '<!-- begin: written by npm run bench -- --publish -->';
const END = '<!-- end -->';
/** Kept in the repository, unlike other results. */
const FOLDER = 'bench/results/published';
/** Plots that are wanted where no SVG is shown; all would make the repository grow with every run. */
const PICTURES = ['tcp', 'udp-64'];
const PAGE = 'docs/performance.md';

/** The page with another report between its marks. @throws FlannelError when the marks are missing */
export function replaceReport(page: string, report: string): string {
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) throw new FlannelError('HOST', `${PAGE} has lost the lines "${BEGIN}" and "${END}"`);
  return `${page.slice(0, begin + BEGIN.length)}\n\n${report.trim()}\n\n${page.slice(end)}`;
}

/** @param root - the checkout */
export async function publish(root: string, results: Results): Promise<void> {
  const page = join(root, PAGE);
  const drawn = results.measures.filter((measure) => plotMeasure(results, measure) !== undefined);
  const shown = new Set(drawn.map(({ name }) => name));
  const link = (measure: string): string | undefined =>
    shown.has(measure) ? `../${FOLDER}/${measure}.svg` : undefined;
  const report = markdownReport(results, link, 3);
  const text = replaceReport(await readFile(page, 'utf8'), report);
  await rm(join(root, FOLDER), { recursive: true, force: true });
  await mkdir(join(root, FOLDER), { recursive: true });
  await writeReport(join(root, FOLDER), results, PICTURES);
  await writeFile(page, text);
}
