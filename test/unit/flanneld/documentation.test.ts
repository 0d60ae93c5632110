import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';

import { describedFlags, defaultText } from '../../../src/flanneld/flag-table.js';
import { STORE_FLAGS } from '../../../src/flannelctl/store-options.js';

const text = readFileSync(new URL('../../../../docs/configuration.md', import.meta.url), 'utf8');

describe('docs/configuration.md', () => {
  for (const [name, flag] of describedFlags()) {
    test(`names --${name}`, () => {
      assert.match(text, new RegExp(`\`--?${name}\``));
      const value = defaultText(flag);
      const row = text
        .split('\n')
        .find((line) => line.startsWith(`| \`--${name}\``) || line.startsWith(`| \`-${name}\``));
      if (flag.status !== 'used' || flag.action === true || value === undefined) return;
      assert.ok(row?.split('|')[2].includes(`\`${value}\``), `${name}: ${row} should give ${value} as the default`);
    });
  }

  test('names no flag that does not exist', () => {
    const iptables = 'random-fully';
    const known = new Set([...describedFlags().map(([name]) => name), iptables]);
    const section = text.slice(text.indexOf('## Flags of flanneld'), text.indexOf('### What an arriving datagram'));
    for (const [, name] of section.matchAll(/`--([a-z_-]+)`/g)) assert.ok(known.has(name), name);
  });
});

describe("flannelctl's etcd options", () => {
  const table = new Map(describedFlags());
  for (const { name, default: preset } of STORE_FLAGS) {
    test(`--${name} is flanneld's`, () => {
      const flag = table.get(name) ?? assert.fail(name);
      assert.equal(flag.default, preset ?? '');
    });
  }
});
