import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { UsageError } from '../../../src/errors.js';
import { PacketFilter } from '../../../src/packet/classic-bpf.js';

const RET_A: readonly number[] = [0x16, 0, 0, 0];
const TRUE: readonly number[] = [0x06, 0, 0, 262144];
const FALSE: readonly number[] = [0x06, 0, 0, 0];

function matches(
  instructions: readonly (readonly number[])[],
  packet: Buffer = Buffer.alloc(0),
  lengthBytes = packet.length,
) {
  return new PacketFilter(instructions.flat()).matches(packet, lengthBytes);
}

/** Whether A is `expected` after the instructions. */
function leaves(expected: number, instructions: readonly (readonly number[])[], packet?: Buffer, lengthBytes?: number) {
  const compare = [[0x15, 0, 1, expected], TRUE, FALSE];
  return matches([...instructions, ...compare], packet, lengthBytes);
}

test('loads take bytes, halves and words in network order, from a constant or an indexed place', () => {
  const packet = Buffer.from([0x81, 0x02, 0x03, 0x04, 0x45]);
  assert.ok(leaves(0x81020304, [[0x20, 0, 0, 0]], packet));
  assert.ok(leaves(0x0203, [[0x28, 0, 0, 1]], packet));
  assert.ok(leaves(0x04, [[0x30, 0, 0, 3]], packet));
  assert.ok(
    leaves(
      0x0304,
      [
        [0x01, 0, 0, 2],
        [0x48, 0, 0, 0],
      ],
      packet,
    ),
    'x + k',
  );
  assert.ok(
    leaves(
      20,
      [
        [0xb1, 0, 0, 4],
        [0x87, 0, 0, 0],
      ],
      packet,
    ),
    'the length of an IP header',
  );
  assert.ok(leaves(1500, [[0x80, 0, 0, 0]], packet, 1500), 'the length of the whole packet');
});

test('a load beyond the bytes that are there says no, even where the sum of offsets is larger than 32 bits', () => {
  const packet = Buffer.alloc(4, 1);
  const far = [0x01, 0, 0, 0xffffffff];
  for (const beyond of [[[0x20, 0, 0, 1]], [[0x30, 0, 0, 4]], [[0xb1, 0, 0, 4]], [far, [0x50, 0, 0, 0xffffffff]]]) {
    assert.equal(matches([...beyond, TRUE], packet, 1500), false);
  }
  assert.equal(matches([far, [0x50, 0, 0, 1], TRUE], packet), false, 'it does not wrap to the beginning');
});

test('arithmetic is that of unsigned 32-bit integers', () => {
  const value = fc.oneof(fc.nat({ max: 0xffffffff }), fc.nat({ max: 40 }), fc.constant(0xffffffff));
  const wide: Readonly<Record<number, (a: bigint, b: bigint) => bigint>> = {
    0x00: (a, b) => a + b,
    0x10: (a, b) => a - b,
    0x20: (a, b) => a * b,
    0x30: (a, b) => a / b,
    0x40: (a, b) => a | b,
    0x50: (a, b) => a & b,
    0x60: (a, b) => (b > 31n ? 0n : a << b),
    0x70: (a, b) => (b > 31n ? 0n : a >> b),
    0x90: (a, b) => a % b,
    0xa0: (a, b) => a ^ b,
  };
  fc.assert(
    fc.property(value, value, fc.constantFrom(...Object.keys(wide).map(Number)), fc.boolean(), (a, b, op, byX) => {
      fc.pre(byX || b !== 0 || (op !== 0x30 && op !== 0x90));
      const zeroDivision = b === 0 && (op === 0x30 || op === 0x90);
      const expected = zeroDivision ? 0 : Number(BigInt.asUintN(32, wide[op](BigInt(a), BigInt(b))));
      const program = [
        [0x00, 0, 0, a],
        [0x01, 0, 0, b],
        [0x04 | op | (byX ? 8 : 0), 0, 0, byX ? 0 : b],
      ];
      assert.equal(leaves(expected, program), !zeroDivision);
    }),
    { numRuns: 2000 },
  );
  assert.ok(
    leaves(0xffffffff, [
      [0x00, 0, 0, 1],
      [0x84, 0, 0, 0],
    ]),
    'negation',
  );
});

test('scratch memory keeps words, and is empty for each packet', () => {
  const remember = [
    [0x00, 0, 0, 7],
    [0x02, 0, 0, 15],
    [0x00, 0, 0, 0],
    [0x60, 0, 0, 15],
  ];
  assert.ok(leaves(7, remember));
  assert.ok(
    leaves(9, [
      [0x01, 0, 0, 9],
      [0x03, 0, 0, 3],
      [0x61, 0, 0, 3],
      [0x87, 0, 0, 0],
    ]),
  );
  const filter = new PacketFilter([[0x60, 0, 0, 2], [0x15, 0, 1, 0], [0x06, 0, 0, 1], FALSE].flat());
  assert.ok(filter.matches(Buffer.alloc(1), 1));
  assert.ok(filter.matches(Buffer.alloc(1), 1));
});

test('jumps compare without sign', () => {
  const truth = (test: number, a: number, k: number) => matches([[0x00, 0, 0, a], [0x05 | test, 0, 1, k], TRUE, FALSE]);
  assert.ok(truth(0x20, 0xffffffff, 1));
  assert.ok(truth(0x30, 5, 5));
  assert.ok(!truth(0x20, 5, 5));
  assert.ok(truth(0x40, 0x80000000, 0x80000000));
  assert.ok(!truth(0x40, 1, 2));
  assert.ok(matches([[0x05, 0, 0, 1], FALSE, TRUE]), 'an unconditional one');
  assert.ok(matches([[0x00, 0, 0, 3], [0x01, 0, 0, 3], [0x1d, 0, 1, 0], TRUE, FALSE]), 'A against X');
});

test('what is no sound program is refused before it is run', () => {
  const refused: readonly (readonly [readonly number[], RegExp])[] = [
    [[], /1 to 4096 instructions/],
    [[6, 0, 0], /four integers/],
    [Array.from({ length: 4097 }, () => [...TRUE]).flat(), /1 to 4096/],
    [[0x00, 0, 0, 1], /last instruction is no return/],
    [[0x05, 0, 0, 1, ...TRUE], /instruction 0 jumps beyond the end/],
    [[0x05, 0, 0, 0xffffffff, ...TRUE], /jumps beyond the end/],
    [[0x15, 1, 0, 0, ...TRUE], /jumps beyond the end/],
    [[0x15, 0, 255, 0, ...TRUE], /jumps beyond the end/],
    [[0x15, 256, 0, 0, ...TRUE], /no byte/],
    [[0x15, -1, 0, 0, ...TRUE], /no byte/],
    [[0x60, 0, 0, 16, ...RET_A], /scratch cell 16 of 16/],
    [[0x03, 0, 0, 99, ...RET_A], /scratch cell/],
    [[0x34, 0, 0, 0, ...RET_A], /divides by zero/],
    [[0x94, 0, 0, 0, ...RET_A], /divides by zero/],
    [[0xff, 0, 0, 0, ...RET_A], /unknown code 255/],
    [[0x28, 0, 0, 0xfffff004, ...RET_A], /--direction/],
    [[0x00, 0, 0, 2 ** 32, ...RET_A], /32 bits/],
    [[0x00, 0, 0, 1.5, ...RET_A], /32 bits/],
  ];
  for (const [program, message] of refused) {
    assert.throws(
      () => new PacketFilter(program),
      (error) => error instanceof UsageError && message.test(error.message),
      String(program.slice(0, 8)),
    );
  }
});

test('property: whatever numbers it is given, it refuses them or answers', () => {
  const instruction = fc.tuple(
    fc.oneof(fc.constantFrom(0x20, 0x30, 0x50, 0x15, 0x05, 0x06, 0xb1, 0x87, 0x07, 0x34, 0x02, 0x60), fc.nat(255)),
    fc.nat(3),
    fc.nat(3),
    fc.oneof(fc.nat(8), fc.nat({ max: 0xffffffff })),
  );
  let answered = 0;
  fc.assert(
    fc.property(fc.array(instruction, { maxLength: 12 }), fc.uint8Array({ maxLength: 40 }), (instructions, packet) => {
      let filter: PacketFilter;
      try {
        filter = new PacketFilter([...instructions.flat(), ...RET_A]);
      } catch (error) {
        assert.ok(error instanceof UsageError);
        return;
      }
      assert.equal(typeof filter.matches(packet, packet.length), 'boolean');
      answered++;
    }),
    { numRuns: 3000 },
  );
  assert.ok(answered > 100);
});
