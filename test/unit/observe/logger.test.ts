import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import fc from 'fast-check';

import { LineLogger, formatLine } from '../../../src/observe/logger.js';

const TIME = new Date('2026-01-02T03:04:05.678Z');

function temporary(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'flannelette-logger-'));
  return use(folder).finally(() => rmSync(folder, { recursive: true, force: true }));
}

describe('a log line', () => {
  test('is time, level, message and fields for people', () => {
    assert.equal(
      formatLine('text', TIME, 'info', 'lease taken', { subnet: '10.5.1.0/24', peers: 3, again: false, no: undefined }),
      '2026-01-02T03:04:05.678Z INFO lease taken subnet=10.5.1.0/24 peers=3 again=false\n',
    );
  });

  test('quotes a field that would read as two', () => {
    assert.match(
      formatLine('text', TIME, 'warn', 'x', { a: 'b c', d: 'e=f', g: '', h: '"' }),
      / a="b c" d="e=f" g="" h="\\""\n$/,
    );
  });

  test('is one JSON object for machines, whose own fields cannot be overwritten', () => {
    const line = formatLine('json', TIME, 'error', 'went wrong', { reason: 'a\nb', level: 'mine', time: 1 });
    assert.deepEqual(JSON.parse(line), {
      time: '2026-01-02T03:04:05.678Z',
      level: 'error',
      message: 'went wrong',
      reason: 'a\nb',
    });
  });

  test('is one line whatever is logged', () => {
    const text = fc.string({ unit: 'binary' });
    fc.assert(
      fc.property(fc.constantFrom('text' as const, 'json' as const), text, text, (format, message, value) => {
        const line = formatLine(format, TIME, 'info', message, { value });
        return line.endsWith('\n') && !/[\n\r\u0085\p{Cc}]/u.test(line.slice(0, -1));
      }),
    );
  });
});

describe('the logger', () => {
  test('writes in order, debug lines only when asked', () =>
    temporary(async (folder) => {
      for (const debug of [false, true]) {
        const path = join(folder, `log-${debug}`);
        const descriptor = openSync(path, 'w');
        const logger = new LineLogger({ format: 'text', debug, descriptor });
        for (let i = 0; i < 100; i++) {
          logger.info(`line ${i}`);
          logger.debug(`detail ${i}`);
        }
        await logger.flush(5000);
        closeSync(descriptor);
        const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
        const expected = Array.from({ length: 100 }, (_, i) => (debug ? [`line ${i}`, `detail ${i}`] : [`line ${i}`]));
        assert.deepEqual(
          lines.map((line) => line.split(' ').slice(2).join(' ')),
          expected.flat(),
        );
      }
    }));

  test('drops and counts lines while nobody reads, and goes on when somebody does', () =>
    temporary(async (folder) => {
      const path = join(folder, 'pipe');
      execFileSync('mkfifo', [path]);
      const descriptor = openSync(path, 'r+');
      const logger = new LineLogger({ format: 'json', debug: false, descriptor, maxQueuedBytes: 20_000 });
      for (let i = 0; i < 5000; i++) {
        logger.info('x'.repeat(100), { i });
        if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      await logger.flush(10);
      let text = '';
      const chunk = Buffer.alloc(65_536);
      while (!text.includes('"lines"') || !text.endsWith('\n')) {
        text += chunk.toString('utf8', 0, readSync(descriptor, chunk));
        await logger.flush(5000);
      }
      closeSync(descriptor);
      const lines = text
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as { i?: number; lines?: number });
      const dropped = lines.find((line) => line.lines !== undefined)?.lines ?? 0;
      assert.equal(lines.filter((line) => line.i !== undefined).length + dropped, 5000);
    }));

  test('survives a reader that went away', async () => {
    const child = spawn(process.execPath, ['-e', 'process.stdin.destroy()'], { stdio: ['pipe', 'ignore', 'ignore'] });
    const script = `
      import { LineLogger } from ${JSON.stringify(new URL('../../../src/observe/logger.js', import.meta.url).href)};
      const logger = new LineLogger({ format: 'text', debug: false });
      for (let i = 0; i < 50; i++) { logger.info('x'); await new Promise((r) => setTimeout(r, 2)); }
      await logger.flush(1000);
    `;
    const writer = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'ignore', child.stdin],
    });
    const code = await new Promise((resolve) => writer.on('exit', resolve));
    child.kill();
    assert.equal(code, 0);
  });
});
