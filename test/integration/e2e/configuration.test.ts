/** What a daemon does while its network cannot be had: it says why, once, keeps trying, and goes on when it is repaired. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster } from '../../harness/cluster.js';
import type { Daemon } from '../../harness/daemon.js';
import { until } from '../../harness/until.js';

/** What is put in etcd, and what the one line about it must name. */
const REFUSALS: readonly (readonly [what: string, config: string, names: RegExp])[] = [
  ['text that is not JSON', '{"Network": "10.5.0.0/16"', /JSON/],
  ['null', 'null', /null/],
  ['an array', '["10.5.0.0/16"]', /array/],
  ['an empty object', '{}', /Network is missing/],
  ['a Network without a length', '{"Network": "10.5.0.0"}', /Network "10\.5\.0\.0"/],
  ['a Network of /29', '{"Network": "10.5.0.0/29"}', /Network "10\.5\.0\.0\/29"/],
  ['SubnetLen 17 in a /16', '{"Network": "10.5.0.0/16", "SubnetLen": 17}', /SubnetLen 17/],
  ['SubnetLen 31', '{"Network": "10.5.0.0/16", "SubnetLen": 31}', /SubnetLen 31/],
  ['a SubnetMin outside the Network', '{"Network": "10.5.0.0/16", "SubnetMin": "10.6.1.0"}', /SubnetMin "10\.6\.1\.0"/],
  ['a SubnetMax off a boundary', '{"Network": "10.5.0.0/16", "SubnetMax": "10.5.9.128"}', /SubnetMax "10\.5\.9\.128"/],
  [
    'a SubnetMin above SubnetMax',
    '{"Network": "10.5.0.0/16", "SubnetMin": "10.5.9.0", "SubnetMax": "10.5.3.0"}',
    /SubnetMin 10\.5\.9\.0 is above SubnetMax 10\.5\.3\.0/,
  ],
  ['an unknown backend', '{"Network": "10.5.0.0/16", "Backend": {"Type": "carrier-pigeon"}}', /"carrier-pigeon"/],
  ['a backend that is no object', '{"Network": "10.5.0.0/16", "Backend": "udp"}', /Backend/],
  ['port 99999', '{"Network": "10.5.0.0/16", "Backend": {"Type": "udp", "Port": 99999}}', /99999/],
];

/** A daemon tries again every second; a flood of lines would show within this time. */
const SEVERAL_TRIES_MS = 2_500;
const NODES = 6;

describe('a configuration that cannot be used', () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await Cluster.create('config', { nodes: NODES, config: null });
  });
  after(() => cluster?.dispose());

  async function untilReady(daemon: Daemon): Promise<void> {
    await daemon.ready();
    await until('it says that it is ready', async () => (await daemon.status()).state === 'ready');
    assert.equal((await daemon.status()).reason, undefined);
    assertNoTrace(daemon);
  }

  /** The line is there, and alone, though the daemon has tried several times since. */
  async function saysOnce(daemon: Daemon, what: RegExp): Promise<void> {
    await daemon.saying(what);
    await sleep(SEVERAL_TRIES_MS);
    assert.equal(daemon.said(what).length, 1, `said more than once:\n${daemon.output}`);
    assertNoTrace(daemon);
    assert.ok(daemon.running);
  }

  describe('is refused while it is there', { concurrency: NODES }, () => {
    for (const [index, [what, config, names]] of REFUSALS.entries()) {
      test(`${what} is refused with one line, and the repaired configuration is used without a restart`, () =>
        cluster.withNode(async (node) => {
          const prefix = `/refused/${index}`;
          await cluster.putConfig(config, prefix);
          const daemon = node.launch([`--etcd-prefix=${prefix}`]);
          await saysOnce(daemon, names);
          const { state, reason } = await daemon.status();
          assert.equal(state, 'configuration');
          assert.match(reason ?? '', names);
          await cluster.putConfig({ Network: '10.5.0.0/16' }, prefix);
          await untilReady(daemon);
        }));
    }

    test('one that becomes bad in another way is told again; the same reason is not', () =>
      cluster.withNode(async (node) => {
        await cluster.putConfig('{}', '/changing');
        const daemon = node.launch(['--etcd-prefix=/changing']);
        await daemon.saying(/Network is missing/);
        await cluster.putConfig('{"Network": "10.5.0.0/16", "SubnetLen": 31}', '/changing');
        await daemon.saying(/SubnetLen 31/);
        await cluster.putConfig('{"Network": "10.5.0.0/16", "SubnetLen": 31, "Unused": 1}', '/changing');
        await saysOnce(daemon, /SubnetLen 31/);
        await cluster.etcd.delete('/changing/config');
        await daemon.saying(/\/changing\/config/);
      }));

    test('an absent one is waited for, and the key that is missing is named', () =>
      cluster.withNode(async (node) => {
        const daemon = node.launch(['--etcd-prefix=/absent']);
        await saysOnce(daemon, /\/absent\/config/);
        await cluster.putConfig({ Network: '10.5.0.0/16' }, '/absent');
        await untilReady(daemon);
      }));

    const ipv6 = {
      EnableIPv6: { Network: '10.5.0.0/16', EnableIPv6: true, IPv6Network: 'fc00::/48' },
      'IPv6 alone': { EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fc00::/48' },
    };
    for (const [what, config] of Object.entries(ipv6)) {
      test(`${what} is refused with the udp backend, for it carries IPv4 only`, () =>
        cluster.withNode(async (node) => {
          const prefix = `/ipv6/${Object.keys(ipv6).indexOf(what)}`;
          await cluster.putConfig(config, prefix);
          const daemon = node.launch([`--etcd-prefix=${prefix}`]);
          await daemon.saying(/udp.*IPv4|IPv4.*udp/);
          await cluster.putConfig({ Network: '10.5.0.0/16' }, prefix);
          await untilReady(daemon);
        }));
    }

    test("a Network that contains the node's own address is refused, for its packets would enter the tunnel again", () =>
      cluster.withNode(async (node) => {
        await cluster.putConfig({ Network: '192.168.0.0/16' }, '/loop');
        const daemon = node.launch(['--etcd-prefix=/loop']);
        const line = await daemon.saying(/192\.168\.0\.0\/16/);
        assert.ok(line.includes(node.address), line);
        assert.doesNotMatch(await node.namespace.ip('route show'), /192\.168\.0\.0\/16/);
        await cluster.putConfig({ Network: '10.5.0.0/16' }, '/loop');
        await untilReady(daemon);
      }));

    test('when no subnet is free the daemon says so once, stays, and takes the first that becomes free', () =>
      cluster.withNode(async (node) => {
        await cluster.putConfig({ Network: '10.5.0.0/16', SubnetMin: '10.5.1.0', SubnetMax: '10.5.3.0' }, '/full');
        for (const third of [1, 2, 3]) await cluster.putLease(`10.5.${third}.0/24`, `192.168.64.20${third}`, '/full');
        const daemon = node.launch(['--etcd-prefix=/full']);
        await saysOnce(daemon, /out of subnets|no (free )?subnet/i);
        await cluster.etcd.delete('/full/subnets/10.5.2.0-24');
        await untilReady(daemon);
        assert.equal(daemon.subnetEnv.FLANNEL_SUBNET, '10.5.2.1/24');
      }));
  });

  test('etcd that is down at the start is waited for, and the daemon says where it looked', () =>
    cluster.withNode(async (node) => {
      await cluster.putConfig({ Network: '10.5.0.0/16' }, '/late');
      await cluster.etcd.stop();
      const daemon = node.launch(['--etcd-prefix=/late']);
      await daemon.saying(/192\.168\.64\.1:2379/);
      await sleep(SEVERAL_TRIES_MS);
      // The line that names the store at the start, and one that says why it is waited for.
      assert.ok(daemon.said(/192\.168\.64\.1:2379/).length <= 2, `a flood of lines:\n${daemon.output}`);
      assertNoTrace(daemon);
      await cluster.etcd.restart();
      await untilReady(daemon);
      await until('the store is healthy again', async () => (await daemon.status()).store.healthy);
    }));

  test('an etcd that takes the connection and never answers does not hang the daemon, nor its end', () =>
    cluster.withNode(async (node) => {
      cluster.etcd.pause();
      try {
        const daemon = node.launch(['--etcd-prefix=/late']);
        await daemon.saying(/192\.168\.64\.1:2379/);
        await until('it serves its socket', async () => (await daemon.status().catch(() => undefined)) !== undefined);
        assert.equal((await daemon.stop()).status, 0, daemon.evidence);
      } finally {
        cluster.etcd.resume();
      }
    }));
});

function assertNoTrace(daemon: Daemon): void {
  assert.doesNotMatch(daemon.output, /\n\s+at |node:internal|Error:.*\n\s/, 'a stack trace reached the user');
}
