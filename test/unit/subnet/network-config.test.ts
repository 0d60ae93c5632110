import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { NetworkConfigError } from '../../../src/errors.js';
import { formatIpv4, formatPrefix, lastAddress, prefixOf } from '../../../src/packet/address.js';
import { formatIpv6, formatIpv6Prefix } from '../../../src/subnet/ipv6-prefix.js';
import { describeNetworkConfig, ignoredKeys, parseNetworkConfig } from '../../../src/subnet/network-config.js';

const OPTIONS = { backendTypes: ['udp', 'vxlan'] };
const parse = (value: unknown) => parseNetworkConfig(JSON.stringify(value), OPTIONS);

const REFUSED: readonly (readonly [name: string, text: string, message: RegExp])[] = [
  ['no JSON', 'Network=10.5.0.0/16', /not JSON .*expected an object/],
  ['an empty text', '', /not JSON/],
  ['null', 'null', /configuration is null: expected a JSON object/],
  ['an array', '[]', /configuration is an array/],
  ['a string', '"10.5.0.0/16"', /configuration is a string/],
  ['an empty object', '{}', /^Network is missing: expected a CIDR/],
  ['a Network without a length', '{"Network":"10.5.0.0"}', /^Network "10.5.0.0": expected an IPv4 CIDR/],
  ['a Network that is a number', '{"Network":10}', /^Network 10: expected a string/],
  ['a Network of IPv6', '{"Network":"fc00::/48"}', /^Network "fc00::\/48": expected an IPv4 CIDR/],
  ['a Network longer than /28', '{"Network":"10.5.0.0/29"}', /^Network "10.5.0.0\/29" is too small/],
  ['all of IPv4', '{"Network":"0.0.0.0/0"}', /^Network "0.0.0.0\/0" is all of IPv4/],
  ['a SubnetLen for fewer than four subnets', '{"Network":"10.5.0.0/16","SubnetLen":17}', /^SubnetLen 17: expected 18/],
  ['a SubnetLen above 30', '{"Network":"10.5.0.0/16","SubnetLen":31}', /^SubnetLen 31: expected 30 or less/],
  ['a negative SubnetLen', '{"Network":"10.5.0.0/16","SubnetLen":-1}', /^SubnetLen -1: expected a whole number/],
  ['a SubnetLen with a fraction', '{"Network":"10.5.0.0/16","SubnetLen":24.5}', /^SubnetLen 24.5: expected a whole/],
  ['a SubnetLen in quotes', '{"Network":"10.5.0.0/16","SubnetLen":"24"}', /^SubnetLen "24": expected a whole number/],
  ['a SubnetMin that is no address', '{"Network":"10.5.0.0/16","SubnetMin":"x"}', /^SubnetMin "x": expected an IPv4/],
  [
    'a SubnetMin outside',
    '{"Network":"10.5.0.0/16","SubnetMin":"10.6.0.0"}',
    /^SubnetMin "10.6.0.0": .*inside Network/,
  ],
  ['a SubnetMin off a boundary', '{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.1"}', /^SubnetMin "10.5.1.1": .*first/],
  [
    'a SubnetMax outside',
    '{"Network":"10.5.0.0/16","SubnetMax":"10.4.0.0"}',
    /^SubnetMax "10.4.0.0": .*inside Network/,
  ],
  [
    'a SubnetMax off a boundary',
    '{"Network":"10.5.0.0/16","SubnetMax":"10.5.9.128"}',
    /^SubnetMax "10.5.9.128": .*\/24/,
  ],
  [
    'a SubnetMin above SubnetMax',
    '{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.3.0"}',
    /^SubnetMin 10.5.9.0 is above SubnetMax 10.5.3.0/,
  ],
  ['a SubnetMax below the default SubnetMin', '{"Network":"10.5.0.0/16","SubnetMax":"10.5.0.0"}', /is above SubnetMax/],
  [
    "a backend of flannel's that is not built",
    '{"Network":"10.5.0.0/16","Backend":{"Type":"IPsec"}}',
    /^Backend.Type "IPsec" is not built yet.*"udp"/,
  ],
  ['an unknown backend', '{"Network":"10.5.0.0/16","Backend":{"Type":"upd"}}', /^Backend.Type "upd" is unknown.*"udp"/],
  ['a backend without a type', '{"Network":"10.5.0.0/16","Backend":{}}', /^Backend.Type is missing/],
  ['a backend that is a string', '{"Network":"10.5.0.0/16","Backend":"udp"}', /^Backend "udp": expected an object/],
  ['a backend that is an array', '{"Network":"10.5.0.0/16","Backend":[]}', /^Backend \[\]: expected an object/],
  ['a backend that is null', '{"Network":"10.5.0.0/16","Backend":null}', /^Backend null: expected an object/],
  ['a type that is a number', '{"Network":"10.5.0.0/16","Backend":{"Type":3}}', /^Backend.Type 3: expected a string/],
  [
    'port 99999',
    '{"Network":"10.5.0.0/16","Backend":{"Type":"udp","Port":99999}}',
    /^Backend.Port 99999: expected 1 to/,
  ],
  ['port 0 for udp', '{"Network":"10.5.0.0/16","Backend":{"Type":"udp","Port":0}}', /^Backend.Port 0: expected 1 to/],
  ['a port in quotes', '{"Network":"10.5.0.0/16","Backend":{"Type":"udp","Port":"8285"}}', /^Backend.Port "8285"/],
  [
    'an MTU too small',
    '{"Network":"10.5.0.0/16","Backend":{"Type":"udp","MTU":67}}',
    /^Backend.MTU 67: expected 68 to/,
  ],
  ['an MTU too large', '{"Network":"10.5.0.0/16","Backend":{"Type":"udp","MTU":65508}}', /^Backend.MTU 65508/],
  [
    'an EnableIPv6 that is a number',
    '{"Network":"10.5.0.0/16","EnableIPv6":1}',
    /^EnableIPv6 1: expected true or false/,
  ],
  ['EnableIPv6 without a network', '{"Network":"10.5.0.0/16","EnableIPv6":true}', /^IPv6Network is missing/],
  [
    'an IPv6Network of IPv4',
    '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"10.0.0.0/8"}',
    /^IPv6Network "10/,
  ],
  ['an IPv6Network of /125', '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/125"}', /too small/],
  [
    'an IPv6SubnetLen for fewer than four subnets',
    '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/63","IPv6SubnetLen":64}',
    /^IPv6SubnetLen 64: expected 65 to 126/,
  ],
  [
    'an IPv6SubnetMin outside',
    '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetMin":"fd00::"}',
    /^IPv6SubnetMin "fd00::": .*inside IPv6Network/,
  ],
  [
    'an IPv6SubnetMax off a boundary',
    '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetMax":"fc00::1"}',
    /^IPv6SubnetMax "fc00::1": .*first address/,
  ],
];

for (const [name, text, message] of REFUSED) {
  test(`refuses ${name} with one line that says what was expected`, () => {
    assert.throws(
      () => parseNetworkConfig(text, OPTIONS),
      (error) => {
        assert.ok(error instanceof NetworkConfigError);
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /\n/);
        return true;
      },
    );
  });
}

const SHAPES: readonly (readonly [network: string, length: number, min: string, max: string])[] = [
  ['10.0.0.0/8', 24, '10.0.1.0', '10.255.255.0'],
  ['10.5.0.0/16', 24, '10.5.1.0', '10.5.255.0'],
  ['10.5.4.0/22', 24, '10.5.5.0', '10.5.7.0'],
  ['10.5.4.0/23', 25, '10.5.4.128', '10.5.5.128'],
  ['10.5.4.0/28', 30, '10.5.4.4', '10.5.4.12'],
  ['255.255.0.0/16', 24, '255.255.1.0', '255.255.255.0'],
];

for (const [network, length, min, max] of SHAPES) {
  test(`completes ${network} as flannel does`, () => {
    const config = parse({ Network: network });
    assert.equal(config.subnetLength, length);
    assert.equal(formatIpv4(config.subnetMin), min);
    assert.equal(formatIpv4(config.subnetMax), max);
    assert.deepEqual(config.backend, { type: 'udp', port: 8285 });
    assert.deepEqual([config.enableIpv4, config.enableIpv6, config.enableNftables], [true, false, false]);
  });
}

test('completes an IPv6 network as flannel does', () => {
  const { ipv6 } = parse({ Network: '10.5.0.0/16', EnableIPv6: true, IPv6Network: 'fc00::/48' });
  assert.ok(ipv6 !== undefined);
  assert.equal(formatIpv6Prefix(ipv6.network), 'fc00::/48');
  assert.equal(ipv6.subnetLength, 64);
  assert.equal(formatIpv6(ipv6.subnetMin), 'fc00:0:0:1::');
  assert.equal(formatIpv6(ipv6.subnetMax), 'fc00:0:0:ffff::');
});

test('reads every key that it knows', () => {
  const config = parse({
    Network: '10.5.0.0/16',
    SubnetLen: 28,
    SubnetMin: '10.5.0.0',
    SubnetMax: '10.5.0.240',
    EnableNFTables: true,
    Backend: { Type: 'UDP', Port: 7000, MTU: 1400 },
  });
  assert.deepEqual(config, {
    network: { address: 0x0a050000, length: 16 },
    subnetLength: 28,
    subnetMin: 0x0a050000,
    subnetMax: 0x0a0500f0,
    enableIpv4: true,
    enableIpv6: false,
    enableNftables: true,
    backend: { type: 'udp', port: 7000, mtuBytes: 1400 },
  });
});

test('matches keys without regard to case, the last match counting, as Go does', () => {
  const text =
    '{"NETWORK":"10.1.0.0/16","network":"10.5.0.0/16","\u017fubnetLen":26,"backend":{"TYPE":"udp","port":1}}';
  const config = parseNetworkConfig(text, OPTIONS);
  assert.equal(formatPrefix(config.network), '10.5.0.0/16');
  assert.equal(config.subnetLength, 26);
  assert.equal(config.backend.port, 1);
});

test('takes null and zero values for keys that are not set, as flannel does', () => {
  const config = parse({
    Network: '10.5.9.9/16',
    SubnetLen: 0,
    SubnetMin: '0.0.0.0',
    SubnetMax: null,
    EnableIPv4: null,
  });
  assert.equal(formatPrefix(config.network), '10.5.0.0/16');
  assert.equal(config.subnetLength, 24);
  assert.equal(formatIpv4(config.subnetMin), '10.5.1.0');
  assert.equal(config.enableIpv4, true);
});

test('ignores unknown keys, and names them to whoever asks', () => {
  const text =
    '{"Network":"10.5.0.0/16","SubnetLenght":25,"Backend":{"Type":"udp","VNI":1},"__proto__":{"SubnetLen":25}}';
  assert.equal(parseNetworkConfig(text, OPTIONS).subnetLength, 24);
  assert.deepEqual(ignoredKeys(text), ['SubnetLenght', '__proto__', 'Backend.VNI']);
});

test('asks for no Network when IPv4 is off', () => {
  const config = parse({ EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fc00::/48' });
  assert.equal(config.enableIpv4, false);
});

test('says what it understood', () => {
  const rows = new Map(describeNetworkConfig(parse({ Network: '10.5.0.0/16' })));
  assert.equal(rows.get('Subnets'), '255');
  assert.equal(rows.get('SubnetMax'), '10.5.255.0');
  assert.equal(rows.get('Backend.Port'), '8285');
});

test('every accepted configuration has its subnets aligned and inside the network', () => {
  const lengths = fc.integer({ min: 1, max: 32 });
  fc.assert(
    fc.property(fc.nat(0xffffffff), lengths, fc.option(lengths), (address, length, subnetLength) => {
      const network = prefixOf(address, length);
      let config;
      try {
        config = parse({ Network: formatPrefix(network), SubnetLen: subnetLength });
      } catch (error) {
        assert.ok(error instanceof NetworkConfigError);
        const wanted = subnetLength ?? length + 2;
        assert.ok(length > 28 || wanted > 30 || wanted < length + 2);
        return;
      }
      const size = 2 ** (32 - config.subnetLength);
      assert.ok(config.subnetLength <= 30 && config.subnetLength >= length + 2);
      assert.equal(config.subnetMin - network.address, size);
      assert.equal(config.subnetMax + size - 1, lastAddress(network));
    }),
  );
});

test('no text whatever makes it throw anything but a NetworkConfigError', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      try {
        parseNetworkConfig(text, OPTIONS);
      } catch (error) {
        assert.ok(error instanceof NetworkConfigError);
      }
    }),
  );
});
