/**
 * Compiles what needs a compiler: this project's addon and the `raw-socket` dependency, both against the headers that
 * came with the Node that runs this, so that nothing is downloaded. `npm run build` calls it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function fail(message) {
  console.error(`native build: ${message}`);
  process.exit(1);
}

/** The folder that holds `include/node/node_api.h` of the running Node, where it can be found. */
function nodeHeaders() {
  const prefix = dirname(dirname(process.execPath));
  const places = [process.env.npm_config_nodedir, prefix, '/usr', '/usr/local'].filter(Boolean);
  return places.find((place) => existsSync(join(place, 'include/node/node_api.h')) && sameMajor(place));
}

/** Headers of another major version would compile `raw-socket` against the wrong ABI. */
function sameMajor(place) {
  const result = spawnSync('grep', [
    '-E',
    '^#define NODE_M(AJOR|INOR)_VERSION',
    join(place, 'include/node/node_version.h'),
  ]);
  return new RegExp(`NODE_MAJOR_VERSION ${process.versions.node.split('.')[0]}\\b`).test(String(result.stdout));
}

function nodeGyp() {
  const bundledWithNpm = process.env.npm_config_node_gyp;
  if (bundledWithNpm && existsSync(bundledWithNpm)) return [process.execPath, bundledWithNpm];
  const beside = join(dirname(dirname(process.execPath)), 'lib/node_modules/npm/node_modules/node-gyp/bin/node-gyp.js');
  if (existsSync(beside)) return [process.execPath, beside];
  return ['node-gyp'];
}

function newest(paths) {
  let latest = 0;
  for (const path of paths) {
    if (!existsSync(path)) continue;
    const stats = statSync(path);
    latest = Math.max(
      latest,
      stats.isDirectory() ? newest(readdirSync(path).map((name) => join(path, name))) : stats.mtimeMs,
    );
  }
  return latest;
}

/** @param {string} folder @param {string} product @param {string[]} sources */
function compile(folder, product, sources) {
  const output = join(folder, 'build/Release', product);
  const upToDate =
    existsSync(output) && statSync(output).mtimeMs >= newest([...sources.map((name) => join(folder, name))]);
  if (upToDate && builtFor(output)) return;
  for (const tool of ['c++', 'make', 'python3']) {
    if (spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0) {
      fail(
        `${tool} is missing: install a compiler with \`apt-get install g++ make python3\` and run \`npm run build\` again`,
      );
    }
  }
  const headers = nodeHeaders();
  const [command, ...first] = nodeGyp();
  const args = [...first, 'rebuild', '--silent', ...(headers ? [`--nodedir=${headers}`] : [])];
  console.log(`compiling ${product}`);
  const result = spawnSync(command, args, { cwd: folder, encoding: 'utf8' });
  if (result.status !== 0) {
    console.error(`${result.stdout ?? ''}${result.stderr ?? ''}${result.error ? result.error.message : ''}`);
    fail(
      headers
        ? `${product} did not compile; the compiler's messages are above`
        : `no headers of Node ${process.versions.node} beside ${process.execPath} and none could be fetched: set npm_config_nodedir to the folder that holds include/node`,
    );
  }
}

/** Whether a compiled addon loads in this Node: another version or architecture left it behind otherwise. */
function builtFor(output) {
  return spawnSync(process.execPath, ['-e', `require(${JSON.stringify(output)})`]).status === 0;
}

if (!existsSync(join(root, 'node_modules/raw-socket'))) fail('the dependencies are missing: run `npm ci` first');
compile(join(root, 'node_modules/raw-socket'), 'raw.node', ['binding.gyp', 'src']);
compile(root, 'flannelette.node', ['binding.gyp', 'native']);
