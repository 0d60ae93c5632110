/** The checks that are not tests of the program: linter and formatter. `test/run.mjs` runs them as tests. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, test } from 'node:test';

const root = fileURLToPath(new URL('../', import.meta.url));

/** Runs a program of node_modules; what it prints is the failure's text. */
function check(script, args) {
  return new Promise((resolve) => {
    const path = `${root}node_modules/${script}`;
    execFile(process.execPath, [path, ...args], { cwd: root, maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      assert.ok(error === null, `\n${stdout}${stderr}`);
      resolve();
    });
  });
}

describe('style', { concurrency: 2 }, () => {
  test('eslint finds nothing', () => check('eslint/bin/eslint.js', ['.']));
  test('prettier would change nothing', () => check('prettier/bin/prettier.cjs', ['--check', '--log-level=warn', '.']));
});
