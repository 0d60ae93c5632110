import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import fc from 'fast-check';
import { parseIpv4, parsePrefix } from '../../../src/packet/address.js';
import type { Lease } from '../../../src/subnet/lease.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config.js';
import {
  formatStoreSnapshot,
  parseStoreSnapshot,
  storeSnapshotPieces,
  type StoreSnapshot,
} from '../../../src/subnet/store-snapshot.js';

const TYPES = { backendTypes: ['udp'] };

function lease(subnet: string, publicIp: string, more: Partial<Lease> = {}): Lease {
  return {
    subnet: parsePrefix(subnet) ?? assert.fail(subnet),
    publicIp: parseIpv4(publicIp) ?? assert.fail(publicIp),
    publicIpv6: null,
    backendType: '',
    reserved: false,
    ...more,
  };
}

const OWN = lease('10.5.34.0/24', '192.0.2.1', { expiresAtMs: 1_767_225_600_000 });
const SNAPSHOT: StoreSnapshot = {
  prefix: '/coreos.com/network "b"\n',
  config: parseNetworkConfig('{"Network": "10.5.0.0/16"}', TYPES),
  own: OWN,
  leases: [
    OWN,
    lease('10.5.35.0/24', '192.0.2.2'),
    lease('10.5.36.0/24', '192.0.2.3', {
      ipv6Subnet: 'fc00::/64',
      backendType: 'vxlan',
      backendData: { VNI: 1, VtepMAC: 'c6:d2:32:6f:8f:44' },
    }),
  ],
};

function read(text: string): StoreSnapshot {
  const result = parseStoreSnapshot(text, TYPES.backendTypes);
  return result.ok ? result.snapshot : assert.fail(result.reason);
}

function reasonAgainst(text: string): string {
  const result = parseStoreSnapshot(text, TYPES.backendTypes);
  return result.ok ? assert.fail(`it was read: ${text}`) : result.reason;
}

describe('the snapshot of a store', () => {
  const configs = [
    '{"Network": "10.5.0.0/16"}',
    '{"Network": "10.5.0.0/16", "EnableNFTables": true, "Backend": {"Type": "udp", "Port": 7890, "MTU": 1400}}',
    '{"Network": "10.0.0.0/8", "SubnetLen": 20, "SubnetMin": "10.10.0.0", "SubnetMax": "10.99.0.0"}',
    '{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fc00::/48"}',
    '{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fc00::/48", "IPv6SubnetLen": 80}',
  ];
  for (const text of configs) {
    test(`gives back what was put in: ${text}`, () => {
      const snapshot = { ...SNAPSHOT, config: parseNetworkConfig(text, TYPES) };
      const again = read(formatStoreSnapshot(snapshot));
      // Of the own lease the file knows the expiry, of a lease among all the store tells none.
      const plain = Object.fromEntries(Object.entries(OWN).filter(([name]) => name !== 'expiresAtMs'));
      assert.deepEqual(again, { ...snapshot, leases: [plain, ...SNAPSHOT.leases.slice(1)] });
    });
  }

  test('knows a reservation, and an own lease that the list of all does not have yet', () => {
    const own = lease('10.5.40.0/24', '192.0.2.1', { reserved: true });
    const again = read(formatStoreSnapshot({ ...SNAPSHOT, own }));
    assert.deepEqual(again.own, own);
    assert.equal(again.leases.length, 4);
  });

  test('gives back more leases than one piece of its text holds, in pieces or not', () => {
    const others = Array.from({ length: 4096 }, (_, index) =>
      lease(`10.6.${index >> 4}.${(index & 15) << 4}/28`, '192.0.2.2'),
    );
    const snapshot = { ...SNAPSHOT, leases: [...others.slice(0, 3000), OWN, ...others.slice(3000)] };
    const pieces = [...storeSnapshotPieces(snapshot)];
    assert.ok(pieces.length > 3);
    assert.equal(pieces.join(''), formatStoreSnapshot(snapshot));
    assert.deepEqual(read(pieces.join('')).leases.slice(1), others);
  });

  const whole = formatStoreSnapshot(SNAPSHOT);
  const bad: [string, string, RegExp][] = [
    ['nothing', '', /no snapshot/],
    ['another kind of file', 'FLANNEL_NETWORK=10.5.0.0/16\n', /no snapshot/],
    ['another release', whole.replace('snapshot 1', 'snapshot 2'), /of version 2.* reads 1/],
    ['a lost end', whole.replace(/leases 3\n$/, ''), /cut short/],
    ['a lost lease', whole.replace(/\n10\.5\.35[^\n]*/, ''), /cut short/],
    ['a lost own lease', whole.replace('own 10.5.34.0-24', 'own 10.5.99.0-24'), /own/],
    ['a lost line', whole.replace(/config [^\n]*\n/, ''), /"config" is missing/],
    ['a bad configuration', whole.replace('10.5.0.0/16', '10.5.0.0/99'), /Network/],
    ['a bad lease', whole.replace('"192.0.2.2"', '"192.0.2"'), /makes no sense: 10\.5\.35/],
    ['a bad prefix', whole.replace(/prefix [^\n]*/, 'prefix 7'), /no prefix/],
  ];
  for (const [what, text, reason] of bad) {
    test(`is refused in one line: ${what}`, () => {
      assert.match(reasonAgainst(text), reason);
      assert.doesNotMatch(reasonAgainst(text), /\n/);
    });
  }

  test('is refused or read wherever it is cut or overwritten, and nothing is thrown', () => {
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.string({ minLength: 1, maxLength: 5 }), (at, junk) => {
        assert.equal(parseStoreSnapshot(whole.slice(0, at), TYPES.backendTypes).ok, false);
        parseStoreSnapshot(whole.slice(0, at) + junk + whole.slice(at + junk.length), TYPES.backendTypes);
      }),
    );
  });
});
