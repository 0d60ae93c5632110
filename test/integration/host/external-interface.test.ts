import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { chooseExternalInterface, type InterfaceChoice } from '../../../src/host/external-interface.js';
import { Namespace } from '../../../src/lab/namespace.js';
import { formatIpv4 } from '../../../src/packet/address.js';
import { namePrefix } from '../../harness/leftovers.js';
import { ip } from '../../support/addresses.js';

/*
 *   eth0  192.168.1.2, 192.168.1.3   default route
 *   eth1  172.16.5.1                 route to 203.0.113.0/24
 *   eth2  169.254.7.7, 10.9.0.1      link-local first
 *   eth3  no address
 */
let node: Namespace;

before(async () => {
  node = await Namespace.create(namePrefix('hext'));
  for (const device of ['eth0', 'eth1', 'eth2', 'eth3']) await node.addBridge(device);
  await node.addAddress('eth0', '192.168.1.2/24');
  await node.addAddress('eth0', '192.168.1.3/24');
  await node.addAddress('eth1', '172.16.5.1/24');
  await node.addAddress('eth2', '169.254.7.7/16');
  await node.addAddress('eth2', '10.9.0.1/24');
  await node.setMtu('eth1', 1400);
  await node.addRoute('default', 'via 192.168.1.1');
  await node.addRoute('203.0.113.0/24', 'via 172.16.5.9');
  await node.addRoute('unreachable 198.51.100.0/24', '');
});

after(() => node?.remove());

const choose = (choice: InterfaceChoice) =>
  chooseExternalInterface(choice, (command, args, options) => node.exec(command, args, options));

const CHOICES: readonly [string, InterfaceChoice, string][] = [
  ['the default route without any wish, with its first address', {}, 'eth0 192.168.1.2'],
  ['a name', { iface: ['eth1'] }, 'eth1 172.16.5.1'],
  ['an address that is not the first', { iface: ['192.168.1.3'] }, 'eth0 192.168.1.3'],
  ['a loopback address when it is asked for', { iface: ['127.0.0.1'] }, 'lo 127.0.0.1'],
  ['the first that matches', { iface: ['eth9', '1.2.3.4', 'eth3', 'eth1', 'eth0'] }, 'eth1 172.16.5.1'],
  ['a global address before a link-local one', { iface: ['eth2'] }, 'eth2 10.9.0.1'],
  ['a regex on addresses', { ifaceRegex: ['^172\\.'] }, 'eth1 172.16.5.1'],
  ['a regex on an address that is not the first', { ifaceRegex: ['\\.3$'] }, 'eth0 192.168.1.3'],
  ['a regex on addresses before one on names', { ifaceRegex: ['eth0|^10\\.9'] }, 'eth2 10.9.0.1'],
  ['a regex on names', { ifaceRegex: ['h[12]'] }, 'eth1 172.16.5.1'],
  ['a regex in the syntax of Go', { ifaceRegex: ['(?i)\\AETH[[:digit:]]\\z'] }, 'eth0 192.168.1.2'],
  ['the second regex', { ifaceRegex: ['^en', '^eth1'] }, 'eth1 172.16.5.1'],
  ['names before regexes', { iface: ['eth0'], ifaceRegex: ['eth1'] }, 'eth0 192.168.1.2'],
  ['the interface that reaches an address', { ifaceCanReach: '203.0.113.5' }, 'eth1 172.16.5.1'],
  ['the default route for an address beyond', { ifaceCanReach: '8.8.8.8' }, 'eth0 192.168.1.2'],
  ['regexes before reachability', { ifaceRegex: ['eth2'], ifaceCanReach: '203.0.113.5' }, 'eth2 10.9.0.1'],
  ['the interface that has the public address', { publicIp: ip('172.16.5.1') }, 'eth1 172.16.5.1'],
  ['nothing by the public address beside --iface', { iface: ['eth0'], publicIp: ip('9.9.9.9') }, 'eth0 192.168.1.2'],
];

for (const [name, choice, expected] of CHOICES) {
  test(`chooses ${name}`, async () => {
    const chosen = await choose(choice);
    assert.equal(`${chosen.name} ${formatIpv4(chosen.address)}`, expected);
  });
}

test('knows the MTU and the index', async () => {
  const chosen = await choose({ iface: ['eth1'] });
  assert.equal(chosen.mtuBytes, 1400);
  const shown = JSON.parse((await node.exec('ip', ['-json', 'link', 'show', 'eth1'])).stdout) as { ifindex: number }[];
  assert.equal(chosen.index, shown[0].ifindex);
});

const MACHINE =
  /; this machine has lo \(127\.0\.0\.1\), .*eth0 \(192\.168\.1\.2 192\.168\.1\.3\), .*eth3 \(no IPv4 address\)$/;

const REFUSALS: readonly [InterfaceChoice, RegExp][] = [
  [{ iface: ['eth9'] }, /^--iface eth9: there is no such interface;/],
  [{ iface: ['eth3'] }, /^--iface eth3: eth3 has no IPv4 address to send from;/],
  [{ iface: ['lo'] }, /^--iface lo: lo has no IPv4 address to send from;/],
  [
    { iface: ['eth9', '1.2.3.4'], ifaceRegex: ['^wl'], ifaceCanReach: '198.51.100.1' },
    /^--iface eth9: .*; --iface 1\.2\.3\.4: no interface has this address; --iface-regex \^wl: no address and no name matches; --iface-can-reach 198\.51\.100\.1: there is no route to it;/,
  ],
  [{ ifaceCanReach: '192.168.1.2' }, /^--iface-can-reach 192\.168\.1\.2: it is this machine's own address;/],
  [{ publicIp: ip('9.9.9.9') }, /^--public-ip 9\.9\.9\.9: no interface has this address; behind NAT, say with --iface/],
];

for (const [choice, message] of REFUSALS) {
  test(`says in one line why nothing matches ${JSON.stringify(choice)}`, async () => {
    await assert.rejects(choose(choice), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'INTERFACE');
      assert.match(error.message, message);
      assert.match(error.message, MACHINE);
      assert.doesNotMatch(error.message, /\n/);
      return true;
    });
  });
}

test('without a default route, says so and names the flag', async () => {
  const other = await Namespace.create(namePrefix('hext2'));
  try {
    await assert.rejects(
      chooseExternalInterface({}, (command, args, options) => other.exec(command, args, options)),
      {
        code: 'INTERFACE',
        message:
          /^there is no default route to choose the external interface by: name one with --iface; this machine has lo \(/,
      },
    );
  } finally {
    await other.remove();
  }
});
