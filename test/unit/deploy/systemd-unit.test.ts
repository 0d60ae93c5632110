import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CAPABILITIES } from '../../../src/flanneld/capabilities.js';

/** The checkout, seen from `dist/test/unit/deploy`. */
const ROOT = new URL('../../../..', import.meta.url).pathname;
const UNIT = join(ROOT, 'deploy/flanneld.service');
const unit = readFileSync(UNIT, 'utf8');

test('the unit is as well shut in as the documentation says, by the measure of systemd', () => {
  const args = ['security', '--offline=true', '--no-pager', UNIT];
  const { stdout, stderr, error } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
  assert.equal(error, undefined, 'systemd-analyze: install the package systemd');
  const [, exposure] = /exposure level for flanneld\.service: ([0-9.]+)/.exec(stdout) ?? [];
  assert.notEqual(exposure, undefined, stderr);
  const [, documented] =
    /--offline=true deploy\/flanneld\.service` says\s+\*\*([0-9.]+)\*\*/.exec(
      readFileSync(join(ROOT, 'docs/security.md'), 'utf8'),
    ) ?? [];
  assert.notEqual(documented, undefined);
  assert.ok(Number(exposure) <= Number(documented), `${exposure}, documented ${documented}`);
});

test('the unit leaves the daemon what it needs and keeps by itself', () => {
  const wanted = Object.keys(CAPABILITIES)
    .filter((name) => name !== 'DAC_OVERRIDE')
    .map((name) => `CAP_${name}`)
    .sort();
  for (const setting of ['CapabilityBoundingSet', 'AmbientCapabilities']) {
    const [, given = ''] = new RegExp(`^${setting}=(.*)$`, 'm').exec(unit) ?? [];
    assert.deepEqual(given.split(' ').sort(), wanted, setting);
  }
  assert.match(unit, /^NoNewPrivileges=yes$/m);
  assert.match(unit, /^DeviceAllow=\/dev\/net\/tun rw$/m);
});
