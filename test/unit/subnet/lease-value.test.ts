import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatLeaseValue, parseLeaseValue } from '../../../src/subnet/lease-value.js';

const ADDRESS = 0xc0a84003;
const UDP = { publicIp: ADDRESS, publicIpv6: null, backendType: '' };
const VXLAN = {
  publicIp: ADDRESS,
  publicIpv6: null,
  backendType: 'vxlan',
  backendData: { VNI: 1, VtepMAC: 'c6:d2:32:6f:8f:44' },
};
const UDP_TEXT = '{"PublicIP":"192.168.64.3","PublicIPv6":null}';
const VXLAN_TEXT =
  '{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}';

test('writes what flannel writes, byte for byte', () => {
  assert.equal(formatLeaseValue(UDP), UDP_TEXT);
  assert.equal(formatLeaseValue(VXLAN), VXLAN_TEXT);
  const escaped = formatLeaseValue({ ...UDP, backendType: 'x', backendData: { a: '<&>\u2028' } });
  assert.equal(
    escaped.slice(UDP_TEXT.length - 1),
    ',"BackendType":"x","BackendData":{"a":"\\u003c\\u0026\\u003e\\u2028"}}',
  );
});

test('reads what flannel writes', () => {
  assert.deepEqual(parseLeaseValue(UDP_TEXT), { ok: true, attributes: UDP });
  assert.deepEqual(parseLeaseValue(VXLAN_TEXT), { ok: true, attributes: VXLAN });
});

test('reads as tolerantly as Go does', () => {
  for (const text of [
    '{"PublicIP":"192.168.64.3"}',
    ' { "publicip" : "192.168.64.3" , "PublicIPv6" : null , "Colour": "blue" } ',
    '{"PublicIP":"10.0.0.1","PUBLICIP":"192.168.64.3","BackendType":null}',
  ]) {
    assert.deepEqual(parseLeaseValue(text), { ok: true, attributes: UDP }, text);
  }
});

test('says why a value is no lease', () => {
  const cases: [string, RegExp][] = [
    ['', /^not JSON/],
    ['192.168.64.3', /^not JSON/],
    ['null', /^no JSON object$/],
    ['["PublicIP"]', /^no JSON object$/],
    ['{}', /^no PublicIP$/],
    ['{"PublicIP":null}', /^no PublicIP$/],
    ['{"PublicIP":3}', /^PublicIP 3: expected a string$/],
    ['{"PublicIP":"node1"}', /^PublicIP "node1": expected an IPv4 address$/],
    ['{"PublicIP":"0.0.0.0","PublicIPv6":null}', /^PublicIP "0.0.0.0": expected an IPv4 address$/],
    ['{"PublicIP":"999.0.0.1","PublicIPv6":null}', /^PublicIP "999.0.0.1": expected an IPv4 address$/],
    ['{"PublicIP":"10.0.0.1","BackendType":3}', /^BackendType 3: expected a string$/],
  ];
  for (const [text, reason] of cases) {
    const result = parseLeaseValue(text);
    assert.ok(!result.ok, text);
    assert.match(result.reason, reason);
  }
});

test('the reason holds no control characters of the value, which could drive a terminal', () => {
  const result = parseLeaseValue('\u001b[2J\n\u009b2J{"PublicIP"');
  assert.ok(!result.ok);
  // eslint-disable-next-line no-control-regex
  assert.doesNotMatch(result.reason, /[\u0000-\u001f\u007f-\u009f]/);
});

test('what it writes it reads back, whatever the backend stores', () => {
  const attributes = fc.record(
    {
      publicIp: fc.integer({ min: 1, max: 0xffffffff }),
      publicIpv6: fc.option(fc.ipV6()),
      backendType: fc.oneof(fc.constant(''), fc.string()),
      backendData: fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.integer(), fc.boolean())),
    },
    { requiredKeys: ['publicIp', 'publicIpv6', 'backendType'] },
  );
  fc.assert(
    fc.property(attributes, (value) => {
      const result = parseLeaseValue(formatLeaseValue(value));
      assert.ok(result.ok);
      assert.equal(formatLeaseValue(result.attributes), formatLeaseValue(value));
    }),
  );
});

test('no text whatever makes it throw', () => {
  fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (text) => void parseLeaseValue(text)));
});
