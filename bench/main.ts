import { bench } from './bench.js';
import { parseOptions } from './options.js';
import { runProgram } from './program.js';
import { Progress } from './progress.js';

const NAME = 'bench';

process.exitCode = await runProgram(NAME, async (signal) => {
  const options = parseOptions(process.argv.slice(2), (text) => void process.stdout.write(text));
  if (options === undefined) return 0;
  return bench(options, new Progress(NAME), signal);
});
