import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cleanUpNetwork } from '../../../src/host/cleanup.js';
import type { RunCommand } from '../../../src/host/command.js';
import { Firewall } from '../../../src/host/firewall/firewall.js';
import { configureLink } from '../../../src/host/link.js';
import { ensureBlackholeRoute } from '../../../src/host/routes.js';
import { silentLogger } from '../../../src/log.js';
import type { Namespace } from '../../../src/lab/namespace.js';
import { namePrefix } from '../../harness/leftovers.js';
import { withNamespaces } from '../../harness/namespaces.js';
import { prefix } from '../../support/addresses.js';

async function makeNetwork(
  n: Namespace,
  run: RunCommand,
  device: string,
  networkId: string,
  network: string,
  subnet: string,
): Promise<void> {
  await n.ip(`tuntap add dev ${device} mode tun`);
  await configureLink(
    {
      name: device,
      networkId,
      mtuBytes: 1472,
      queuePackets: 1000,
      address: prefix(subnet).address,
      network: prefix(network),
    },
    run,
  );
  await ensureBlackholeRoute(prefix(network), prefix(subnet), run);
  const settings = { network: prefix(network), subnet: prefix(subnet), masquerade: true, forward: true };
  const firewall = await Firewall.open({ ...settings, fullyRandom: true, nftables: false }, silentLogger, run);
  await firewall.ensure();
}

async function state(n: Namespace): Promise<string> {
  const shown = [await n.ip('-o link show'), await n.ip('-o address show'), await n.ip('route show')];
  shown.push((await n.exec('iptables-save', [])).stdout.replace(/^#.*\n|\[\d+:\d+\]/gm, ''));
  return shown.join('');
}

test('takes away all of one network, nothing of another, and says what', async () => {
  await withNamespaces(namePrefix('hclean'), ['n'], async ({ n }) => {
    const run: RunCommand = (command, args, options) => n.exec(command, args, options);
    await makeNetwork(n, run, 'flannel1', '/other', '10.6.0.0/16', '10.6.1.0/24');
    const before = await state(n);
    await makeNetwork(n, run, 'flannel0', '/ours', '10.5.0.0/16', '10.5.34.0/24');

    const report = await cleanUpNetwork('/ours', [], run);
    assert.deepEqual(report, {
      removed: [
        'route 10.5.0.0/16 dev flannel0',
        'device flannel0',
        'route blackhole 10.5.34.0/24',
        '7 iptables rules of 10.5.0.0/16',
      ],
      failed: [],
    });
    assert.equal(await state(n), before);
    assert.deepEqual(await cleanUpNetwork('/ours', [prefix('10.5.0.0/16')], run), { removed: [], failed: [] });
    assert.equal(await state(n), before);

    const last = await cleanUpNetwork('/other', [], run);
    assert.ok(last.removed.includes('chain FLANNEL-POSTRTG (iptables nat)'));
    assert.ok(last.removed.includes('chain FLANNEL-FWD (iptables filter)'));
    assert.doesNotMatch(await state(n), /flannel|10\.[56]\./i);
  });
});

test('finds rules by a known Network when the device is gone already', async () => {
  await withNamespaces(namePrefix('hclean2'), ['n'], async ({ n }) => {
    const run: RunCommand = (command, args, options) => n.exec(command, args, options);
    await makeNetwork(n, run, 'flannel0', '/ours', '10.5.0.0/16', '10.5.34.0/24');
    await n.ip('link delete flannel0');
    const report = await cleanUpNetwork('/ours', [prefix('10.5.0.0/16')], run);
    assert.deepEqual(report.failed, []);
    assert.doesNotMatch(await state(n), /flannel|10\.5\./i);
  });
});

test('a step that fails is reported and the others are done', async () => {
  await withNamespaces(namePrefix('hclean3'), ['n'], async ({ n }) => {
    const run: RunCommand = (command, args, options) =>
      args.includes('delete') ? n.exec('false', []) : n.exec(command, args, options);
    await makeNetwork(
      n,
      (command, args, options) => n.exec(command, args, options),
      'flannel0',
      '/ours',
      '10.5.0.0/16',
      '10.5.34.0/24',
    );
    const report = await cleanUpNetwork('/ours', [], run);
    assert.match(report.failed.join('\n'), /^device: .*failed/);
    assert.ok(report.removed.includes('7 iptables rules of 10.5.0.0/16'));
  });
});
