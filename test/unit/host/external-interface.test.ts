import assert from 'node:assert/strict';
import { test } from 'node:test';
import { UsageError } from '../../../src/errors.js';
import { checkOutsideNetwork, compileInterfaceRegex } from '../../../src/host/external-interface.js';
import { parseIpv4, parsePrefix } from '../../../src/packet/address.js';

const REGEXES: readonly [string, string, boolean][] = [
  ['^eth', 'eth0', true],
  ['^eth', 'veth0', false],
  ['(?i)ETH0', 'eth0', true],
  ['ETH0', 'eth0', false],
  ['(?P<net>10)\\.', '10.5.0.1', true],
  ['\\Aens[[:digit:]]+\\z', 'ens192', true],
  ['\\Aens[[:digit:]]+\\z', 'ens192x', false],
  ['192.168.*', '192.168.1.1', true],
];

for (const [pattern, text, expected] of REGEXES) {
  test(`${pattern} ${expected ? 'matches' : 'does not match'} ${text}`, () => {
    assert.equal(compileInterfaceRegex(pattern).expression.test(text), expected);
  });
}

test('a broken expression is a usage error that quotes it', () => {
  assert.throws(
    () => compileInterfaceRegex('eth('),
    (error) => error instanceof UsageError && error.message.startsWith('--iface-regex eth(: expected a regular'),
  );
});

test('a Network that contains the external address is refused in one line, any other is not', () => {
  const external = { name: 'eth0', index: 2, mtuBytes: 1500, address: parseIpv4('10.5.3.2') ?? 0 };
  const network = (text: string) => parsePrefix(text) ?? assert.fail();
  assert.throws(() => checkOutsideNetwork(external, network('10.5.0.0/16')), {
    code: 'INTERFACE',
    message: /^10\.5\.3\.2 on eth0 lies inside the overlay's Network 10\.5\.0\.0\/16, [^\n]*--iface/,
  });
  checkOutsideNetwork(external, network('10.6.0.0/16'));
  checkOutsideNetwork(external, network('10.5.4.0/22'));
});
