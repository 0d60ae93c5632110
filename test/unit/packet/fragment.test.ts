import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { checksum } from '../../../src/packet/checksum.js';
import { fragmentIpv4 } from '../../../src/packet/fragment.js';
import {
  FLAG_DONT_FRAGMENT,
  FLAG_MORE_FRAGMENTS,
  FRAGMENT_OFFSET_MASK,
  ipv4FragmentWord,
  ipv4HeaderBytes,
  ipv4Shape,
  writeIpv4Checksum,
  writeIpv4Header,
} from '../../../src/packet/ipv4.js';

function packet(payload: Buffer, options = Buffer.alloc(0), fragmentWord = 0): Buffer {
  const buffer = Buffer.concat([Buffer.alloc(20), options, payload]);
  writeIpv4Header(buffer, 0, {
    totalBytes: buffer.length,
    protocol: 17,
    source: 0x0a050106,
    destination: 0x0a050203,
    identification: 0xbeef,
    fragmentWord,
  });
  buffer[0] = 0x40 | ((20 + options.length) / 4);
  writeIpv4Checksum(buffer, 0);
  return buffer;
}

/** What the receiver of the fragments puts together (RFC 791, 3.2): the first header, and every payload in its place. */
function reassemble(fragments: readonly Buffer[]): Buffer {
  const sorted = [...fragments].sort((a, b) => offsetBytes(a) - offsetBytes(b));
  const parts = [sorted[0].subarray(0, ipv4HeaderBytes(sorted[0], 0))];
  let end = offsetBytes(sorted[0]);
  for (const fragment of sorted) {
    assert.equal(offsetBytes(fragment), end, 'no hole and no overlap');
    const payload = fragment.subarray(ipv4HeaderBytes(fragment, 0));
    end += payload.length;
    parts.push(payload);
  }
  const whole = Buffer.concat(parts);
  const last = sorted[sorted.length - 1];
  whole.writeUInt16BE(whole.length, 2);
  const more = ipv4FragmentWord(last, 0) & FLAG_MORE_FRAGMENTS;
  whole.writeUInt16BE((ipv4FragmentWord(sorted[0], 0) & ~FLAG_MORE_FRAGMENTS) | more, 6);
  writeIpv4Checksum(whole, 0);
  return whole;
}

function offsetBytes(fragment: Buffer): number {
  return (ipv4FragmentWord(fragment, 0) & FRAGMENT_OFFSET_MASK) * 8;
}

test('fragments fit the MTU, are well formed and reassemble to the original, also when cut twice', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 4000 }),
      fc.nat({ max: 10 }),
      fc.integer({ min: 68, max: 1500 }),
      fc.integer({ min: 68, max: 1500 }),
      fc.nat({ max: 100 }),
      fc.boolean(),
      (bytes, optionWords, firstMtu, secondMtu, unit, more) => {
        // A fragment that others follow carries a multiple of eight bytes.
        const payload = Buffer.from(more ? bytes.subarray(0, Math.max(8, bytes.length & ~7)) : bytes);
        const whole = more && payload.length % 8 !== 0 ? Buffer.alloc(8, 1) : payload;
        const options = Buffer.alloc(optionWords * 4, 1);
        const original = packet(whole, options, unit | (more ? FLAG_MORE_FRAGMENTS : 0));
        const once = fragmentIpv4(original, 0, firstMtu);
        assert.ok(once !== undefined);
        const twice = once.flatMap((fragment) => fragmentIpv4(fragment, 0, secondMtu) ?? []);
        for (const [fragments, mtu] of [
          [once, firstMtu],
          [twice, Math.min(firstMtu, secondMtu)],
        ] as const) {
          for (const fragment of fragments) {
            assert.ok(fragment.length <= mtu);
            assert.equal(ipv4Shape(fragment, 0, fragment.length), 'ok');
            assert.equal(checksum(fragment, 0, ipv4HeaderBytes(fragment, 0)), 0);
            assert.equal(fragment.readUInt16BE(4), 0xbeef);
          }
          assert.deepEqual(reassemble(fragments), original);
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('a packet that fits is left as it is, whatever its flags', () => {
  const original = packet(Buffer.alloc(100, 3), undefined, FLAG_DONT_FRAGMENT);
  assert.deepEqual(fragmentIpv4(original, 0, 120), [original]);
});

test('a packet that forbids fragments is not cut', () => {
  assert.equal(fragmentIpv4(packet(Buffer.alloc(100), undefined, FLAG_DONT_FRAGMENT), 0, 119), undefined);
});

test('an MTU without room for eight bytes of payload cuts nothing', () => {
  assert.equal(fragmentIpv4(packet(Buffer.alloc(100), Buffer.alloc(40, 1)), 0, 67), undefined);
  assert.equal(fragmentIpv4(packet(Buffer.alloc(100), Buffer.alloc(40, 1)), 0, 68)?.length, 3);
});

test('only options with the copied flag are in later fragments, padded to a word', () => {
  // Record route (7, not copied), no-op, router alert (148, copied), stream id (136, copied) cut by one byte to 3.
  const options = Buffer.from('0707040000000001' + '94040000' + '88030000', 'hex');
  const fragments = fragmentIpv4(packet(Buffer.alloc(64, 9), options), 0, 76);
  assert.ok(fragments !== undefined && fragments.length > 1);
  assert.deepEqual(fragments[0].subarray(20, 36), options);
  for (const later of fragments.slice(1)) {
    assert.equal(ipv4HeaderBytes(later, 0), 28);
    assert.equal(later.subarray(20, 28).toString('hex'), '9404000088030000');
  }
});

test('malformed options end the copying, not the fragmentation', () => {
  for (const bad of ['94ff0000', '94000000', '01010194']) {
    const fragments = fragmentIpv4(packet(Buffer.alloc(64, 9), Buffer.from(bad, 'hex')), 0, 68);
    assert.equal(fragments?.length, 2);
    assert.equal(ipv4HeaderBytes(fragments[1], 0), 20);
  }
});

test('a fragment that ends where no datagram does is not cut further', () => {
  const fragmentWord = FRAGMENT_OFFSET_MASK - 3;
  assert.equal(fragmentIpv4(packet(Buffer.alloc(1000), undefined, fragmentWord), 0, 576), undefined);
  assert.equal(fragmentIpv4(packet(Buffer.alloc(24), undefined, fragmentWord), 0, 36)?.length, 2);
});
