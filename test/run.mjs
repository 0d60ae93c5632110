/**
 * Runs the tests, or some of them, and reports as node's own runner does; its closing lines count all of them.
 *
 *   npm test                           style, unit, integration, interop
 *   npm test -- unit                   one of these, or several
 *   npm test -- test/unit/packet       the tests of a folder or a file
 *   npm test -- unit -t 'lost race'    only tests whose name matches
 *
 * Unit tests run a file on each processor. The others make networks, engines and load, and run one by one. Where CI is
 * `true` they run two at a time, but for those whose head has a line that begins with `Runs alone:`, and a reason. There
 * files that fail are run once more, alone, after all others; the second result counts, and the first failure is told.
 * At the end the files that took longest are named.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { PassThrough } from 'node:stream';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const compiled = join(root, 'dist/test');
/** Folders below test/ whose tests make networks, engines and load. */
const ON_REAL_NETWORKS = ['integration', 'interop'];
const FOLDERS = ['unit', ...ON_REAL_NETWORKS];
/** A file that takes longer than this hangs. */
const FILE_TIMEOUT_MS = 10 * 60_000;
/** Files on real networks at a time, where one that fails for want of a processor gets a second chance. */
const LANES = 2;
/** In the comment at the head of a file. */
const RUNS_ALONE = /^ \* Runs alone: \S/m;
/** Files that are named for how long they took. */
const SLOWEST = 10;

function fail(message) {
  console.error(`test: ${message}`);
  process.exit(2);
}

/** Compiled test files below a folder, in the order of their names. */
function testFiles(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return testFiles(path);
      return entry.name.endsWith('.test.js') ? [path] : [];
    });
}

/** The compiled files that a path on the command line stands for. */
function filesOf(given) {
  const path = relative(root, resolve(given)).replace(/^dist\//, '');
  const target = join(root, 'dist', path.replace(/\.ts$/, '.js'));
  if (!path.startsWith('test/') || !existsSync(target)) {
    fail(`${given}: expected style, ${FOLDERS.join(', ')}, or a file or folder under test/`);
  }
  return statSync(target).isDirectory() ? testFiles(target) : [target];
}

function parseArguments(words) {
  const chosen = new Set();
  const patterns = [];
  for (let index = 0; index < words.length; index++) {
    const word = words[index];
    if (word === '-t' || word === '--test-name-pattern') {
      if (words[index + 1] === undefined) fail(`${word}: expected a regular expression`);
      patterns.push(words[++index]);
    } else if (word === 'style') {
      chosen.add(join(root, 'test/style.mjs'));
    } else if (FOLDERS.includes(word)) {
      for (const file of testFiles(join(compiled, word))) chosen.add(file);
    } else {
      for (const file of filesOf(word)) chosen.add(file);
    }
  }
  return { chosen: [...chosen], patterns };
}

const words = process.argv.slice(2);
const whole = words.some((word, index) => !word.startsWith('-') && !(words[index - 1] ?? '').startsWith('-'))
  ? words
  : ['style', ...FOLDERS, ...words];
const { chosen, patterns } = parseArguments(whole);
const needsRoot = (file) => ON_REAL_NETWORKS.some((folder) => file.startsWith(join(compiled, folder)));
const groups = [
  { files: chosen.filter((file) => !needsRoot(file)), concurrency: availableParallelism() },
  { files: chosen.filter(needsRoot), concurrency: 1 },
].filter(({ files }) => files.length > 0);

if (groups.length === 0) fail('no tests there');
if (chosen.some(needsRoot) && process.getuid() !== 0) {
  fail('integration tests make network namespaces and need root: `sudo npm test`, or only `npm test -- style unit`');
}

const startedAtMs = performance.now();
/** node's closing counts, added up over what was run. */
const totals = new Map();
let failed = false;
const report = new PassThrough({ objectMode: true });
report.pipe(new spec()).pipe(process.stdout);

/** Runs files, and gives what happens to `tell`. Answers the counts, and the first failure of a test. */
async function runFiles(files, concurrency, tell) {
  const options = { files, concurrency, timeout: FILE_TIMEOUT_MS };
  if (patterns.length > 0) options.testNamePatterns = patterns;
  const counts = new Map();
  let failure;
  for await (const event of run(options)) {
    // A suite fails for its tests; what is told is the test.
    if (event.type === 'test:fail' && (failure === undefined || failure.details.error.failureType === 'subtestsFailed'))
      failure = event.data;
    const count = event.type === 'test:diagnostic' && event.data.nesting === 0 ? closingCount(event.data) : undefined;
    if (count !== undefined) counts.set(count.name, (counts.get(count.name) ?? 0) + count.value);
    // A summary of some files is not the summary of the run; the counts at the end are.
    else if (event.type !== 'test:summary') tell(event);
  }
  return { counts, failure };
}

const tellAtOnce = (event) => report.write(event);
const remark = (message) => report.write({ type: 'test:diagnostic', data: { nesting: 0, message } });

function count({ counts, failure }) {
  for (const [name, value] of counts) totals.set(name, (totals.get(name) ?? 0) + value);
  if (failure !== undefined) failed = true;
}

/** Runs files in lanes, and those that failed once more, alone. The reporter sees only the result that counts. */
async function runWithSecondChance(files) {
  const failures = [];
  const times = [];
  const inLanes = async (some, lanes) => {
    const waiting = some.values();
    const lane = async () => {
      for (const file of waiting) {
        const events = [];
        const result = await runFiles([file], 1, (event) => events.push(event));
        times.push({ file, ms: result.counts.get('duration_ms') });
        if (result.failure !== undefined) {
          failures.push({ file, first: describeFailure(result.failure) });
          remark(`failed, to be run again: ${sourceOf(file)}: ${failures.at(-1).first}`);
          continue;
        }
        events.forEach(tellAtOnce);
        count(result);
      }
    };
    await Promise.all(Array.from({ length: lanes }, lane));
  };
  await inLanes(
    files.filter((file) => !runsAlone(file)),
    Math.min(LANES, availableParallelism()),
  );
  await inLanes(files.filter(runsAlone), 1);
  const verdicts = [];
  for (const { file, first } of failures) {
    await removeLeftovers();
    const result = await runFiles([file], 1, tellAtOnce);
    count(result);
    const verdict = result.failure === undefined ? 'failed, then passed when run again' : 'failed, and failed again';
    verdicts.push(`${verdict}: ${sourceOf(file)}: ${first}`);
  }
  for (const { file, ms } of times.sort((a, b) => b.ms - a.ms).slice(0, SLOWEST)) {
    remark(`took ${(ms / 1000).toFixed(1)} s: ${sourceOf(file)}`);
  }
  verdicts.forEach(remark);
}

function runsAlone(file) {
  return RUNS_ALONE.test(readFileSync(join(root, sourceOf(file)), 'utf8'));
}

function sourceOf(file) {
  return relative(compiled, file).replace(/^/, 'test/').replace(/\.js$/, '.ts');
}

function describeFailure({ name, details: { error } }) {
  const reason = String(error.cause?.message ?? error.cause ?? error.message);
  return `"${name}": ${reason.replace(/\s+/g, ' ').slice(0, 300)}`;
}

/** Ends and removes what a killed run left on this machine. */
async function removeLeftovers() {
  await (await import(join(compiled, 'harness/leftovers.js'))).removeLeftovers();
}

for (const { files, concurrency } of groups) {
  const onRealNetworks = files.some(needsRoot);
  if (onRealNetworks) await removeLeftovers();
  if (onRealNetworks && process.env.CI === 'true') await runWithSecondChance(files);
  else count(await runFiles(files, concurrency, tellAtOnce));
}
// Files that ran at once have taken less time than all of theirs.
totals.set('duration_ms', performance.now() - startedAtMs);
for (const [name, value] of totals) remark(`${name} ${value}`);
report.end();
process.exitCode = failed ? 1 : 0;

function closingCount({ message }) {
  const match = /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) ([0-9.]+)$/.exec(message);
  return match === null ? undefined : { name: match[1], value: Number(match[2]) };
}
