import { parseCompareOptions } from './compare-options.js';
import { compare } from './compare.js';
import { runProgram } from './program.js';
import { Progress } from './progress.js';
import { requireBenchMachine } from './requirements.js';

const NAME = 'bench:compare';

process.exitCode = await runProgram(NAME, async (signal) => {
  const options = parseCompareOptions(process.argv.slice(2), (text) => void process.stdout.write(text));
  if (options === undefined) return 0;
  requireBenchMachine();
  return compare(options, new Progress(NAME), signal);
});
