import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DropReason } from '../../../src/dataplane/drop-reasons.js';
import { SLOW_PATH_BYTES, SlowPathReader, SlowPathWriter } from '../../../src/dataplane/slow-path.js';

function ring() {
  const shared = new SharedArrayBuffer(SLOW_PATH_BYTES);
  const bells = { rung: 0 };
  return { writer: new SlowPathWriter(shared, () => bells.rung++), reader: new SlowPathReader(shared), bells };
}

test('a record comes out as it went in, whatever the arena holds by then', () => {
  const { writer, reader } = ring();
  const arena = Buffer.from('....a packet....');
  assert.ok(writer.push(DropReason.NoLease, 0xc0a84003 | 0, arena, 4, 8));
  arena.fill(0);
  const records: unknown[] = [];
  assert.equal(
    reader.drain((record) => records.push(record)),
    1,
  );
  assert.deepEqual(records, [
    { reason: DropReason.NoLease, underlayAddress: 0xc0a84003, packet: Buffer.from('a packet') },
  ]);
});

test('the bell rings once until the reader rests', () => {
  const { writer, reader, bells } = ring();
  const push = () => writer.push(DropReason.NoLease, 1, Buffer.alloc(100), 0, 100);
  push();
  push();
  assert.equal(bells.rung, 1);
  reader.drain(() => undefined);
  push();
  assert.equal(bells.rung, 1, 'the reader has not rested yet');
  assert.equal(reader.rest(), false, 'something came before it rested');
  reader.drain(() => undefined);
  assert.equal(reader.rest(), true);
  push();
  assert.equal(bells.rung, 2);
});

test('a reader may take a few at a time, and does not rest before the last', () => {
  const { writer, reader } = ring();
  for (const text of ['a', 'b', 'c']) writer.push(DropReason.NoLease, 1, Buffer.from(text), 0, 1);
  const read: string[] = [];
  assert.equal(
    reader.drain(({ packet }) => read.push(packet.toString()), 2),
    2,
  );
  assert.equal(reader.rest(), false);
  reader.drain(({ packet }) => read.push(packet.toString()), 2);
  assert.equal(reader.rest(), true);
  assert.deepEqual(read, ['a', 'b', 'c']);
});

test('a full ring refuses, and takes more when it was read', () => {
  const { writer, reader } = ring();
  const packet = Buffer.alloc(60_000, 7);
  const push = () => writer.push(DropReason.PacketTooBig, 1, packet, 0, packet.length);
  let taken = 0;
  while (push()) taken++;
  assert.ok(taken >= 3);
  assert.equal(
    reader.drain((record) => assert.deepEqual(record.packet, packet)),
    taken,
  );
  assert.ok(push());
});

test('strangers leave half of the ring to those who are to be told something', () => {
  const { writer } = ring();
  while (writer.push(DropReason.UnknownSender, 1, Buffer.alloc(0), 0, 0));
  assert.ok(writer.push(DropReason.NoLease, 1, Buffer.alloc(576), 0, 576));
});

test('a handler that throws does not meet the same record again', () => {
  const { writer, reader } = ring();
  writer.push(DropReason.NoLease, 1, Buffer.from('a'), 0, 1);
  writer.push(DropReason.NoLease, 1, Buffer.from('b'), 0, 1);
  assert.throws(() =>
    reader.drain(() => {
      throw new Error('no');
    }),
  );
  const left: string[] = [];
  reader.drain(({ packet }) => left.push(packet.toString()));
  assert.deepEqual(left, ['b']);
});

test('property: records of any sizes come out in order and unharmed, over many rounds of the ring', () => {
  const { writer, reader } = ring();
  const sizes = fc.array(fc.oneof(fc.nat(64), fc.nat(2000), fc.nat(65535)), { maxLength: 12 });
  let stamp = 0;
  fc.assert(
    fc.property(sizes, (batch) => {
      const accepted: { reason: number; underlayAddress: number; packet: Buffer }[] = [];
      for (const size of batch) {
        const packet = Buffer.alloc(size, ++stamp & 255);
        if (writer.push(DropReason.TtlExceeded, stamp, packet, 0, size)) {
          accepted.push({ reason: DropReason.TtlExceeded, underlayAddress: stamp, packet });
        }
      }
      const read: typeof accepted = [];
      reader.drain((record) => read.push(record));
      assert.deepEqual(read, accepted);
    }),
    { numRuns: 300 },
  );
});
