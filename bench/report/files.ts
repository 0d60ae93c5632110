/** The files of a run: results.json, report.md, and a plot of each measure. */
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { FlannelError, UsageError, errorMessage } from '../../src/errors.js';
import { RESULTS_FORMAT, type Results } from '../results.js';
import { markdownReport } from './markdown.js';
import { plotMeasure } from './plot.js';
import { renderPng } from './png.js';

const RESULTS_FILE = 'results.json';

/**
 * Writes all files into a folder, which is made.
 * @param pictures - the measures whose plots are to be there as PNG, too; all by default
 * @returns what could not be written, on one line each
 * @throws FlannelError when the folder cannot be written to
 */
export async function writeReport(
  folder: string,
  results: Results,
  pictures: readonly string[] = results.measures.map(({ name }) => name),
): Promise<string[]> {
  try {
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, RESULTS_FILE), `${JSON.stringify(results, null, 1)}\n`);
    const plots = new Set<string>();
    const complaints = new Set<string>();
    for (const measure of results.measures) {
      const svg = plotMeasure(results, measure);
      if (svg === undefined) continue;
      plots.add(measure.name);
      await writeFile(join(folder, `${measure.name}.svg`), svg);
      if (!pictures.includes(measure.name)) continue;
      try {
        await writeFile(join(folder, `${measure.name}.png`), await renderPng(svg));
      } catch (error) {
        complaints.add(errorMessage(error));
      }
    }
    const link = (measure: string): string | undefined => (plots.has(measure) ? `${measure}.svg` : undefined);
    await writeFile(join(folder, 'report.md'), `# Benchmark\n\n${markdownReport(results, link)}`);
    return [...complaints];
  } catch (error) {
    throw new FlannelError('HOST', `cannot write the results: ${errorMessage(error)}`);
  }
}

/**
 * Finds out whether {@link writeReport} could write into a folder, before hours are spent on what it is to hold; leaves nothing.
 * @throws UsageError when it could not
 */
export async function requireWritable(folder: string): Promise<void> {
  const made: string[] = [];
  try {
    // One by one: Node's recursive mkdir never returns where the kernel denies a folder with ENOENT, as in /proc.
    for (const missing of missingFolders(resolve(folder))) {
      await mkdir(missing);
      made.push(missing);
    }
    const attempt = join(folder, '.writable');
    await writeFile(attempt, '');
    await rm(attempt);
  } catch (error) {
    throw new UsageError(`--output ${folder} cannot be written to: ${errorMessage(error)}`);
  } finally {
    for (const folder of made.reverse()) await rmdir(folder);
  }
}

/** @throws UsageError when a folder has results that others would replace */
export function requireNoResults(folder: string): void {
  if (!existsSync(join(folder, RESULTS_FILE))) return;
  throw new UsageError(`--output ${folder} has results already: add to them with --append, or name another folder`);
}

/** Those on a folder's way that are not there, the outermost first. */
function missingFolders(folder: string): string[] {
  return existsSync(folder) ? [] : [...missingFolders(dirname(folder)), folder];
}

/** The results that a folder has. @throws UsageError when there are none that this program can read */
export async function readResults(folder: string): Promise<Results> {
  const file = join(folder, RESULTS_FILE);
  if (!existsSync(file)) throw new UsageError(`there is no ${file}: give the --output of an earlier run`);
  try {
    const results = JSON.parse(await readFile(file, 'utf8')) as Results;
    if (results.format === RESULTS_FORMAT) return results;
  } catch (error) {
    throw new UsageError(`${file} cannot be read: ${errorMessage(error)}`);
  }
  throw new UsageError(`${file} is of another version of the benchmark: choose another --output`);
}
