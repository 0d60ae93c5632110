import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_CONTROL_SOCKET } from '../../../src/flannelctl/options.js';
import { STORE_FLAGS, storeSettings, storeVariable } from '../../../src/flannelctl/store-options.js';
import { defaultText, describedFlags } from '../../../src/flanneld/flag-table.js';
import { ENVIRONMENT_PREFIX } from '../../../src/flanneld/flags.js';
import { environmentName } from '../../../src/flanneld/go-flags.js';
import { flannelctl } from '../../support/flannelctl.js';

test("flannelctl's etcd flags are flanneld's: same names, same defaults, same variables", () => {
  const theirs = describedFlags()
    .filter(([name]) => name.startsWith('etcd-'))
    .map(([name, flag]) => ({
      name,
      default: defaultText(flag),
      variable: environmentName(ENVIRONMENT_PREFIX, name),
    }));
  const ours = STORE_FLAGS.map(({ name, default: preset }) => ({
    name,
    default: preset,
    variable: storeVariable(name),
  }));
  const byName = (a: { name: string }, b: { name: string }): number => a.name.localeCompare(b.name);
  assert.deepEqual(ours.sort(byName), theirs.sort(byName));
});

test('flannelctl asks where flanneld listens by default', () => {
  const flag = describedFlags().find(([name]) => name === 'control-socket');
  assert.equal(flag?.[1].default, DEFAULT_CONTROL_SOCKET);
});

test('the command line comes before the environment, the environment before the defaults', () => {
  const defaults = storeSettings({}, {});
  assert.deepEqual(defaults.endpoints, ['http://127.0.0.1:4001', 'http://127.0.0.1:2379']);
  assert.equal(defaults.prefix, '/coreos.com/network');
  const env = { FLANNELD_ETCD_ENDPOINTS: 'http://a:1, http://b:2', FLANNELD_ETCD_PREFIX: '/env' };
  assert.deepEqual(storeSettings({}, env).endpoints, ['http://a:1', 'http://b:2']);
  assert.equal(storeSettings({ etcdPrefix: '/line' }, env).prefix, '/line');
  assert.equal(storeSettings({ etcdPrefix: '' }, { FLANNELD_ETCD_PREFIX: '' }).prefix, '/coreos.com/network');
});

test('settings that cannot work are a usage error', async () => {
  for (const args of [
    ['--etcd-certfile', 'c.pem'],
    ['--etcd-keyfile', 'k.pem'],
    ['--etcd-password', 'x'],
    ['--etcd-password-file', '/dev/null'],
    ['--etcd-username', 'x', '--etcd-password-file', '/no/such/file'],
    ['--etcd-username', 'x', '--etcd-password-file', '/dev/null'],
    ['--etcd-username', 'x', '--etcd-password', 'x', '--etcd-password-file', '/dev/null'],
    ['--etcd-endpoints', 'ftp://a:1'],
    ['--etcd-endpoints', 'https://127.0.0.1:1', '--etcd-cafile', '/no/such/ca.pem'],
  ]) {
    const { status, stdout, stderr } = await flannelctl(['network', 'show', ...args]);
    assert.deepEqual({ status, stdout }, { status: 2, stdout: '' }, args.join(' '));
    assert.match(stderr, /^flannelctl: [^\n]*--etcd-[^\n]*\n$/);
  }
});
