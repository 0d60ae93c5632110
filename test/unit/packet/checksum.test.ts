import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { checksum, checksumAdd, checksumFinish, checksumUpdate } from '../../../src/packet/checksum.js';

test('the example of RFC 1071, section 3', () => {
  const words = Buffer.from('0001f203f4f5f6f7', 'hex');
  assert.equal(checksum(words, 0, 8), ~0xddf2 & 0xffff);
});

test('an odd last byte is the high half of a word', () => {
  assert.equal(checksum(Buffer.from('000102', 'hex'), 0, 3), checksum(Buffer.from('00010200', 'hex'), 0, 4));
});

test('data with its checksum in it sums to zero', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 2, maxLength: 2000 }), (bytes) => {
      const data = Buffer.from(bytes);
      data.writeUInt16BE(0, 0);
      data.writeUInt16BE(checksum(data, 0, data.length), 0);
      assert.equal(checksum(data, 0, data.length), 0);
    }),
  );
});

test('64 KiB of ones do not overflow', () => {
  assert.equal(checksum(Buffer.alloc(65536, 0xff), 0, 65536), 0);
});

const updates: [string, number[], number, number][] = [
  ['the example of RFC 1624, section 4', [0xcd7a, 0x5555], 1, 0x3285],
  ['a word becomes zero', [0x4500, 0x1234], 1, 0x0000],
  ['a word becomes ones', [0x4500, 0x1234], 1, 0xffff],
  ['ones become zero', [0x4500, 0xffff], 1, 0x0000],
  ['zero becomes ones', [0x4500, 0x0000], 1, 0xffff],
  ['the checksum was zero', [0x0001, 0xfffe], 1, 0x0005],
  ['the checksum becomes zero', [0x0001, 0x0005], 1, 0xfffe],
  ['nothing changes', [0x4500, 0x0101], 1, 0x0101],
];

for (const [name, words, index, replacement] of updates) {
  test(`RFC 1624 update equals recomputation: ${name}`, () => {
    const sum = (values: number[]): number => checksumFinish(values.reduce((total, value) => total + value, 0));
    const changed = words.map((word, at) => (at === index ? replacement : word));
    assert.equal(checksumUpdate(sum(words), words[index], replacement), sum(changed));
  });
}

test('RFC 1624 update equals recomputation for any header', () => {
  const word = fc.oneof(fc.constantFrom(0, 0xffff, 1, 0xfffe, 0x8000), fc.nat({ max: 0xffff }));
  fc.assert(
    fc.property(fc.array(word, { minLength: 1, maxLength: 30 }), fc.nat(), word, (words, pick, replacement) => {
      const data = Buffer.alloc(2 + words.length * 2);
      data.writeUInt16BE(0x4500, 0); // a header is never all zero
      words.forEach((value, index) => data.writeUInt16BE(value, 2 + index * 2));
      const before = checksumFinish(checksumAdd(data, 0, data.length));
      const index = pick % words.length;
      data.writeUInt16BE(replacement, 2 + index * 2);
      assert.equal(checksumUpdate(before, words[index], replacement), checksum(data, 0, data.length));
    }),
    { numRuns: 2000 },
  );
});
