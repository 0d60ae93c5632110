import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { DROP_REASONS } from '../../src/dataplane/drop-reasons.js';
import { CHECKS } from '../../src/debug/doctor/doctor.js';
import { HOST_DROP_REASONS } from '../../src/debug/explain/packet-spec.js';
import { processContext } from '../../src/flannelctl/context.js';
import { buildProgram } from '../../src/flannelctl/program.js';
import { FAULT_NAMES } from '../../src/lab/faults.js';
import { createMetrics } from '../../src/observe/metrics.js';
import { SILENT_SOURCE } from './observe/metrics-source.js';

/** The checkout, seen from `dist/test/unit`. */
const ROOT = new URL('../../..', import.meta.url).pathname;
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const pages = (): string[] =>
  ['', 'docs'].flatMap((folder) =>
    readdirSync(join(ROOT, folder))
      .filter((name) => name.endsWith('.md'))
      .map((name) => join(folder, name)),
  );

test('every drop reason is in the troubleshooting page, and no other', () => {
  const section = read('docs/troubleshooting.md').split('## Drop reasons')[1].split('\n## ')[0];
  const named = [...section.matchAll(/^\| `([a-z0-9-]+)` \| (both|encap|decap) /gm)];
  assert.deepEqual(
    named.map(([, name, direction]) => ({ name, direction })),
    DROP_REASONS.map(({ name, directions }) => ({
      name,
      direction: directions.length === 2 ? 'both' : directions[0],
    })),
  );
});

test('every metric of this project is in the configuration page', async () => {
  const page = read('docs/configuration.md');
  const metrics = await createMetrics(SILENT_SOURCE);
  const names = [...(await metrics.read()).matchAll(/^# TYPE (flannel_\w+) /gm)].map(([, name]) => name);
  assert.ok(names.length >= 8);
  for (const name of names) assert.ok(page.includes(`\`${name}\``), name);
});

test('every command of flannelctl is in the configuration page', () => {
  const page = read('docs/configuration.md');
  for (const command of buildProgram(processContext()).commands) {
    if (command.name() === 'help') continue;
    assert.match(page, new RegExp(`^\\| \`${command.name()}\\b`, 'm'), command.name());
  }
});

test("every check of the doctor and every drop reason of the host's is in the debugging page, and no other", () => {
  const page = read('docs/debugging.md');
  const rows = (section: string): string[] => {
    const text = page.split(`## ${section}\n`)[1].split('\n## ')[0];
    return [...text.matchAll(/^\| `([a-z0-9-]+)` \|/gm)].map(([, name]) => name);
  };
  assert.deepEqual(rows('Doctor'), Object.keys(CHECKS));
  assert.deepEqual(rows('Explain'), [...HOST_DROP_REASONS]);
});

test('every fault of the lab is in its page, and no other', () => {
  const section = read('docs/lab.md').split('## Faults')[1].split('\n## ')[0];
  const named = [...section.matchAll(/^\| `([a-z-]+)` \|/gm)].map(([, name]) => name);
  assert.deepEqual(named, [...FAULT_NAMES]);
});

test('the figures of the overview are those of the published results', () => {
  const section = read('README.md').split('## How fast')[1].split('\n## ')[0];
  const goals = read('docs/performance.md').split('### Goals')[1];
  const rows = [...section.matchAll(/^\| ([^|]+) \| ([\d.]+ ×)? ?\| ([\d.]+ ×)? ?\|$/gm)];
  assert.equal(rows.length, section.split('\n').filter((line) => / × \|/.test(line) && /\d/.test(line)).length);
  for (const [, what, ofVxlan, ofFlannel] of rows) {
    for (const [base, ratio] of [
      ['vxlan', ofVxlan],
      ["flannel's udp", ofFlannel],
    ] as const) {
      if (ratio === undefined) continue;
      const goal = goals.split('\n').find((line) => line.startsWith(`| ${what} | `) && line.includes(` × ${base} | `));
      assert.ok(goal?.includes(` | ${ratio} | `), `${what}, of ${base}: ${ratio}`);
    }
  }
});

test('every npm command and test file that a page names is there, and the overview has the commands that users run', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  const tests = readdirSync(join(ROOT, 'test'), { recursive: true, encoding: 'utf8' });
  for (const page of pages()) {
    const text = read(page);
    for (const [, name] of text.matchAll(/npm run ([\w:]+)/g)) assert.ok(name in scripts, `${page}: npm run ${name}`);
    for (const [file] of text.matchAll(/[\w/-]+\.test\.ts/g)) {
      assert.ok(
        tests.some((path) => `/test/${path}`.endsWith(`/${file}`)),
        `${page}: ${file}`,
      );
    }
  }
  for (const name of ['restarts', 'simulate', 'storm', 'fuzz', 'hostile', 'soak']) {
    assert.equal(read('README.md').split(`\`npm run ${name}\``).length, 2, name);
  }
});

test('links between the pages lead somewhere', () => {
  for (const page of pages()) {
    for (const [, target] of read(page).matchAll(/\]\(([^)]+)\)/g)) {
      if (/^https?:/.test(target)) continue;
      const [path, anchor] = target.split('#');
      const file = path === '' ? page : join(dirname(page), path);
      assert.ok(existsSync(join(ROOT, file)), `${page} links to ${target}`);
      if (anchor === undefined) continue;
      const anchors = [...read(file).matchAll(/^#+ (.+)$/gm)].map(([, title]) =>
        title
          .toLowerCase()
          .replace(/[^\w\- ]/g, '')
          .replaceAll(' ', '-'),
      );
      assert.ok(anchors.includes(anchor), `${page} links to ${target}`);
    }
  }
});
