import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { Firewall, type FirewallSettings } from '../../../src/host/firewall/firewall.js';
import { silentLogger } from '../../../src/log.js';
import { Namespace, removeNamespaces } from '../../../src/lab/namespace.js';
import { namePrefix } from '../../harness/leftovers.js';
import { prefix } from '../../support/addresses.js';

/*
 *   pod 10.5.34.7 ── cni0 10.5.34.1 [node] eth0 192.0.2.1 ── eth0 192.0.2.2 [world]
 *                                   [node] flannel0 (a cable here) 10.5.34.0 ── [peer] 10.5.35.7
 *
 * The world and the peer answer each datagram with the address they saw it come from. The world's route back to pods
 * leads through the node too, so an answer shows which rule applied, not whether one can be reached.
 */
const names = ['pod', 'node', 'world', 'peer'] as const;
const spaces = {} as Record<(typeof names)[number], Namespace>;

const ECHO = `
  const socket = require('node:dgram').createSocket('udp4');
  socket.on('message', (_, from) => socket.send(from.address, from.port, from.address));
  socket.bind(7, () => process.stdout.write('bound'));`;

const ASK = `
  const socket = require('node:dgram').createSocket('udp4');
  setTimeout(() => process.exit(1), 5000);
  socket.on('message', (message) => { process.stdout.write(message); process.exit(0); });
  setInterval(() => socket.send('who am I', 7, process.argv[1]), 200);
  socket.send('who am I', 7, process.argv[1]);`;

before(async () => {
  for (const name of names) spaces[name] = await Namespace.create(namePrefix(`hmasq-${name}`));
  const { pod, node, world, peer } = spaces;
  await node.connect('veth0', pod, 'eth0');
  await node.addBridge('cni0', ['veth0']);
  await node.addAddress('cni0', '10.5.34.1/24');
  await pod.addAddress('eth0', '10.5.34.7/24');
  await pod.addRoute('default', 'via 10.5.34.1');
  await node.connect('eth0', world, 'eth0');
  await node.addAddress('eth0', '192.0.2.1/24');
  await world.addAddress('eth0', '192.0.2.2/24');
  await world.addRoute('10.5.0.0/16', 'via 192.0.2.1');
  await node.connect('flannel0', peer, 'eth0');
  await node.addAddress('flannel0', '10.5.34.0/32');
  await node.addRoute('10.5.0.0/16', 'dev flannel0');
  await peer.addAddress('eth0', '10.5.35.7/32');
  await peer.addRoute('default', 'dev eth0');
  await peer.setSysctl('net.ipv4.conf.eth0.proxy_arp', 1);
  await node.setSysctl('net.ipv4.conf.flannel0.proxy_arp', 1);
  await node.setSysctl('net.ipv4.ip_forward', 1);
  for (const echo of [world, peer, pod]) {
    const child = echo.spawn(process.execPath, ['-e', ECHO]);
    assert.ok(child.stdout);
    await once(child.stdout, 'data');
  }
});

after(() => removeNamespaces(Object.values(spaces)));

/** Which address `to` sees when `from` sends to `address`. */
async function seenAs(from: Namespace, address: string): Promise<string> {
  return (await from.exec(process.execPath, ['-e', ASK, address])).stdout;
}

const SETTINGS: FirewallSettings = {
  network: prefix('10.5.0.0/16'),
  subnet: prefix('10.5.34.0/24'),
  masquerade: true,
  forward: true,
  fullyRandom: true,
  nftables: false,
};

for (const nftables of [false, true]) {
  test(`with ${nftables ? 'nftables' : 'iptables'}, the world sees the node, and pods see pods`, async () => {
    const { pod, node, world } = spaces;
    const open = (settings: Partial<FirewallSettings>) =>
      Firewall.open({ ...SETTINGS, nftables, ...settings }, silentLogger, (command, args, options) =>
        node.exec(command, args, options),
      );
    assert.equal(await seenAs(pod, '192.0.2.2'), '10.5.34.7', 'without rules the pod is seen as itself');

    await (await open({})).ensure();
    assert.equal(await seenAs(pod, '192.0.2.2'), '192.0.2.1', 'a pod in the world: masqueraded');
    assert.equal(await seenAs(pod, '10.5.35.7'), '10.5.34.7', 'a pod at a pod of another node: itself');
    assert.equal(await seenAs(world, '10.5.34.7'), '192.0.2.2', 'the world at a pod of this node: itself');
    assert.equal(await seenAs(world, '10.5.35.7'), '10.5.34.0', 'the world at a pod of another node: masqueraded');

    await (await open({ masquerade: false, forward: false })).ensure();
    assert.equal(await seenAs(pod, '192.0.2.2'), '10.5.34.7', 'and as itself again without the rules');
  });
}

test('the rules for forwarding open a FORWARD chain whose policy is DROP', async () => {
  const { pod, node } = spaces;
  await node.exec('iptables', ['-P', 'FORWARD', 'DROP']);
  await assert.rejects(seenAs(pod, '10.5.35.7'));
  const firewall = await Firewall.open({ ...SETTINGS, masquerade: false }, silentLogger, (command, args, options) =>
    node.exec(command, args, options),
  );
  await firewall.ensure();
  assert.equal(await seenAs(pod, '10.5.35.7'), '10.5.34.7');
});
