import { bench } from './bench.js';
import { parseOptions } from './options.js';
import { runProgram } from './program.js';
import { Progress } from './progress.js';

process.exitCode = await runProgram('bench', async (signal) => {
  const options = parseOptions(process.argv.slice(2), (text) => void process.stdout.write(text));
  if (options === undefined) return 0;
  return bench(options, new Progress(), signal);
});
