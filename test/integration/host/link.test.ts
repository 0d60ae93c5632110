import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runCommand, type RunCommand } from '../../../src/host/command.js';
import { configureLink, deleteLink, findLinks, linkAlias } from '../../../src/host/link.js';
import { listInterfaces } from '../../../src/host/interfaces.js';
import {
  BLACKHOLE_METRIC,
  deleteRoute,
  ensureBlackholeRoute,
  listRoutes,
  type Route,
} from '../../../src/host/routes.js';
import type { Namespace } from '../../../src/lab/namespace.js';
import { formatPrefix, type Ipv4Prefix } from '../../../src/packet/address.js';
import { namePrefix } from '../../harness/leftovers.js';
import { withNamespaces } from '../../harness/namespaces.js';
import { ip, prefix } from '../../support/addresses.js';

/** Programs run inside the namespace. */
function runIn(namespace: Namespace): RunCommand {
  return (command, args, options) => namespace.exec(command, args, options);
}

const NETWORK = prefix('10.5.0.0/16');

async function findRoute(network: Ipv4Prefix, run: RunCommand): Promise<Route | undefined> {
  return (await listRoutes(run)).find(({ destination }) => formatPrefix(destination) === formatPrefix(network));
}

test('a device gets alias, MTU, one /32 address, the route, and no IPv6 address', async () => {
  await withNamespaces(namePrefix('hlink1'), ['n'], async ({ n }) => {
    const run = runIn(n);
    await n.ip('tuntap add dev flannel0 mode tun');
    const settings = {
      name: 'flannel0',
      networkId: '/a #b "c" \'d\'',
      mtuBytes: 1472,
      queuePackets: 1000,
      network: NETWORK,
    };
    await configureLink({ ...settings, address: ip('10.5.34.0') }, run);
    // Twice, and then with the address of another subnet: what an earlier run left must not pile up.
    await configureLink({ ...settings, address: ip('10.5.34.0') }, run);
    await configureLink({ ...settings, address: ip('10.5.35.0') }, run);

    const links = await findLinks('/a #b "c" \'d\'', run);
    assert.equal(links.length, 1);
    assert.equal(links[0].name, 'flannel0');
    assert.equal(links[0].kind, 'tun');
    assert.equal(links[0].mtuBytes, 1472);
    assert.equal(links[0].up, true);
    assert.deepEqual(links[0].addresses, [{ address: ip('10.5.35.0'), prefixLength: 32 }]);
    const shown = await n.ip('address show dev flannel0');
    assert.doesNotMatch(shown, /inet6/);
    assert.match(shown, / qlen 1000\b/);
    const route = await findRoute(NETWORK, run);
    assert.equal(route?.device, 'flannel0');
    assert.equal(route?.linkDown, true, 'nobody holds the TUN');
    assert.match(await n.ip('route show 10.5.0.0/16'), /^10\.5\.0\.0\/16 dev flannel0 /);

    await configureLink({ ...settings, address: ip('10.6.1.0'), network: prefix('10.6.0.0/16') }, run);
    assert.equal(await findRoute(NETWORK, run), undefined, 'the route of an earlier Network is gone');
    assert.equal((await findRoute(prefix('10.6.0.0/16'), run))?.device, 'flannel0');

    assert.equal((await findLinks('/a #b "c" \'d\'', run))[0].mtuBytes, 1472);
    await deleteLink('flannel0', run);
    assert.deepEqual(await findLinks('/a #b "c" \'d\'', run), []);
  });
});

test('devices of two networks are told apart', async () => {
  await withNamespaces(namePrefix('hlink2'), ['n'], async ({ n }) => {
    const run = runIn(n);
    await n.addBridge('flannel0');
    await n.addBridge('flannel1');
    await n.ip(`link set flannel0 alias ${linkAlias('/one')}`);
    await n.ip(`link set flannel1 alias ${linkAlias('/one/two')}`);
    assert.deepEqual(
      (await findLinks('/one', run)).map((link) => link.name),
      ['flannel0'],
    );
    assert.deepEqual(
      (await findLinks('/one/two', run)).map((link) => link.name),
      ['flannel1'],
    );
  });
});

test('a route is deleted only from the device that it leads through', async () => {
  await withNamespaces(namePrefix('hlink3'), ['n'], async ({ n }) => {
    const run = runIn(n);
    await n.ip('tuntap add dev flannel1 mode tun');
    await n.setUp('flannel1');
    await n.addRoute(formatPrefix(NETWORK), 'dev flannel1');
    assert.equal((await findRoute(NETWORK, run))?.device, 'flannel1');
    assert.equal(await deleteRoute(NETWORK, 'flannel0', run), false);
    assert.equal(await deleteRoute(NETWORK, 'flannel1', run), true);
    assert.equal(await findRoute(NETWORK, run), undefined);
  });
});

test('the blackhole route follows the subnet, leaves other blackholes alone, and never shadows a bridge', async () => {
  await withNamespaces(namePrefix('hlink4'), ['n'], async ({ n }) => {
    const run = runIn(n);
    await n.addRoute('blackhole 10.5.99.0/24', '');
    await n.addRoute('blackhole 10.6.1.0/24', `metric ${BLACKHOLE_METRIC}`);
    await ensureBlackholeRoute(NETWORK, prefix('10.5.34.0/24'), run);
    await ensureBlackholeRoute(NETWORK, prefix('10.5.34.0/24'), run);
    const removed = await ensureBlackholeRoute(NETWORK, prefix('10.5.35.0/24'), run);
    assert.deepEqual(removed.map(formatPrefix), ['10.5.34.0/24']);
    const blackholes = async () =>
      (await listRoutes(run))
        .filter((route) => route.type === 'blackhole')
        .map((route) => formatPrefix(route.destination))
        .sort();
    assert.deepEqual(await blackholes(), ['10.5.35.0/24', '10.5.99.0/24', '10.6.1.0/24']);

    // The bridge comes later than the blackhole, as it does when Docker or a CNI plugin starts after the agent.
    await n.addBridge('cni0');
    await n.addAddress('cni0', '10.5.35.1/24');
    assert.match(await n.ip('route get 10.5.35.7'), /dev cni0/);

    assert.deepEqual((await ensureBlackholeRoute(NETWORK, undefined, run)).map(formatPrefix), ['10.5.35.0/24']);
    assert.deepEqual(await blackholes(), ['10.5.99.0/24', '10.6.1.0/24']);
  });
});

test('interfaces come in the order of their index, with all their IPv4 addresses', async () => {
  await withNamespaces(namePrefix('hlink5'), ['n'], async ({ n }) => {
    await n.addBridge('zeta');
    await n.addBridge('alpha');
    await n.addAddress('zeta', '192.0.2.9/24');
    await n.addAddress('zeta', '192.0.2.4/24');
    const interfaces = await listInterfaces(runIn(n));
    const names = interfaces.map(({ name }) => name).filter((name) => ['lo', 'zeta', 'alpha'].includes(name));
    assert.deepEqual(names, ['lo', 'zeta', 'alpha']);
    assert.deepEqual(
      interfaces.find(({ name }) => name === 'zeta')?.addresses.map((entry) => entry.address),
      [ip('192.0.2.9'), ip('192.0.2.4')],
    );
  });
});

test('a device that does not exist is named in one line', async () => {
  await assert.rejects(
    configureLink(
      {
        name: 'fl-none0',
        networkId: '/x',
        mtuBytes: 1472,
        queuePackets: 1000,
        address: ip('10.5.1.0'),
        network: NETWORK,
      },
      runCommand,
    ),
    { code: 'HOST', message: /^`ip link set dev fl-none0 alias flannelette:\/x` failed: .*fl-none0/ },
  );
});
