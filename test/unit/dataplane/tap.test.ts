import assert from 'node:assert/strict';
import { constants as osConstants } from 'node:os';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  ADDRESS,
  DESCRIPTOR_WORDS,
  ERROR,
  FIRST_FAILED,
  FORWARD,
  LAST_FAILED,
  LENGTH,
  MERGED,
  OFFSET,
  PORT,
  SEGMENTS,
  VERDICT,
} from '../../../src/dataplane/descriptors.js';
import { DropReason } from '../../../src/dataplane/drop-reasons.js';
import { TAP_BYTES, TapReader, TapWriter, type TapDemand, type TapRecord } from '../../../src/dataplane/tap.js';
import { checksum } from '../../../src/packet/checksum.js';
import { decrementTtl } from '../../../src/packet/ipv4.js';
import { ip } from '../../support/addresses.js';
import { packetOf } from './arena.js';

const EVERYTHING: TapDemand = { everyPassed: 1, everyDropped: 1, keptBytes: 65536, wirePackets: false };
const NEXT_HOP = ip('192.168.64.2');
const PLACE_BYTES = 2048;

interface Placed {
  readonly packet: Buffer;
  readonly verdict?: number;
  readonly segments?: number;
}

/** A worker's tap over an arena, and the main thread's end of it. */
class Tapped {
  readonly arena = Buffer.alloc(64 * PLACE_BYTES);
  readonly descriptors = new Int32Array(60 * DESCRIPTOR_WORDS);
  private readonly shared = new SharedArrayBuffer(TAP_BYTES);
  readonly reader = new TapReader(this.shared);
  readonly writer: TapWriter;

  constructor(direction: 'encap' | 'decap' = 'encap') {
    const { arena, descriptors, shared } = this;
    const cutOffset = 62 * PLACE_BYTES;
    // What the native call does, but for real headers: a byte that says which segment it is.
    const cut = (descriptor: number, segment: number, keptBytes: number): number => {
      const at = descriptor * DESCRIPTOR_WORDS;
      const offset = descriptors[at + OFFSET];
      if (segment < 0) {
        arena.copyWithin(cutOffset, offset, offset + Math.min(keptBytes, descriptors[at + LENGTH]));
        return descriptors[at + LENGTH];
      }
      arena.copyWithin(cutOffset, offset, offset + 28);
      arena[cutOffset + 28] = segment;
      return 29;
    };
    this.writer = new TapWriter(
      direction === 'encap'
        ? { shared, direction, arena, descriptors, cut, cutOffset }
        : { shared, direction, arena, descriptors },
    );
  }

  /** As after a walk: TTLs of what goes on are lowered. */
  place(batch: readonly Placed[]): void {
    batch.forEach(({ packet, verdict = FORWARD, segments = 1 }, index) => {
      const at = index * DESCRIPTOR_WORDS;
      packet.copy(this.arena, index * PLACE_BYTES);
      if (verdict === FORWARD) decrementTtl(this.arena, index * PLACE_BYTES);
      this.descriptors.fill(0, at, at + DESCRIPTOR_WORDS);
      this.descriptors[at + OFFSET] = index * PLACE_BYTES;
      this.descriptors[at + LENGTH] = packet.length;
      this.descriptors[at + VERDICT] = verdict;
      this.descriptors[at + ADDRESS] = NEXT_HOP;
      this.descriptors[at + PORT] = 8285;
      this.descriptors[at + SEGMENTS] = segments;
    });
  }

  /** One round of the worker; `transmit` stands for what the kernel says. */
  round(batch: readonly Placed[], transmit: (tapped: this) => void = () => undefined): TapRecord[] {
    this.place(batch);
    this.writer.observe(batch.length);
    transmit(this);
    this.writer.conclude();
    return this.read();
  }

  refuse(index: number, error: number, first = 0, last = first): void {
    const at = index * DESCRIPTOR_WORDS;
    this.descriptors[at + ERROR] = error;
    this.descriptors[at + FIRST_FAILED] = first;
    this.descriptors[at + LAST_FAILED] = last;
  }

  read(limit = Infinity): TapRecord[] {
    const records: TapRecord[] = [];
    this.reader.drain((record) => records.push(record), limit);
    return records;
  }
}

const good = packetOf('10.5.1.6', '10.5.2.7', { ttl: 63 });

test('nobody watches: nothing is recorded', () => {
  const tapped = new Tapped();
  assert.deepEqual(tapped.round([{ packet: good }]), []);
  tapped.reader.demand(EVERYTHING);
  assert.equal(tapped.round([{ packet: good }]).length, 1);
  tapped.reader.demand(undefined);
  assert.deepEqual(tapped.round([{ packet: good }]), []);
});

test('a record is the packet as it came, with what became of it', () => {
  const tapped = new Tapped();
  tapped.reader.demand(EVERYTHING);
  const before = process.hrtime.bigint();
  const batch = [
    { packet: good },
    { packet: packetOf('10.5.1.6', '10.5.9.9', { ttl: 1 }), verdict: DropReason.NoLease },
  ];
  const [passed, dropped] = tapped.round(batch, () => tapped.arena.fill(0xee));
  assert.deepEqual(passed.packet, good);
  assert.equal(checksum(passed.packet, 0, 20), 0);
  assert.deepEqual(
    { ...passed, packet: 0, monotonicNs: 0 },
    {
      ...{
        reason: 0,
        error: 0,
        underlayAddress: NEXT_HOP,
        underlayPort: 8285,
        packet: 0,
        lengthBytes: 84,
        segments: 1,
      },
      ...{ segment: -1, monotonicNs: 0, batchPackets: 2, merged: 1, every: 1 },
    },
  );
  assert.equal(dropped.reason, DropReason.NoLease);
  assert.deepEqual(dropped.packet, batch[1].packet);
  assert.equal(dropped.underlayAddress, 0, 'it has no next hop, whatever the descriptor still says');
  assert.equal(passed.monotonicNs, dropped.monotonicNs, 'one clock reading a batch');
  assert.ok(passed.monotonicNs >= before && passed.monotonicNs <= process.hrtime.bigint());
});

test('on the way in, a dropped packet has its sender', () => {
  const tapped = new Tapped('decap');
  tapped.reader.demand(EVERYTHING);
  const [record] = tapped.round([{ packet: good, verdict: DropReason.SpoofedSource }]);
  assert.deepEqual([record.reason, record.underlayAddress], [DropReason.SpoofedSource, NEXT_HOP]);
});

test('on the way in, a record says how many packets were written as one with it', () => {
  const tapped = new Tapped('decap');
  tapped.reader.demand(EVERYTHING);
  const dropped = { packet: good, verdict: DropReason.SpoofedSource };
  const records = tapped.round([{ packet: good }, dropped, { packet: good }, { packet: good }], () => {
    [2, 7, 2, 1].forEach((merged, index) => (tapped.descriptors[index * DESCRIPTOR_WORDS + MERGED] = merged));
  });
  assert.deepEqual(
    records.map(({ merged }) => merged),
    [2, 1, 2, 1],
  );
});

test('what the kernel refuses is dropped for that reason, also for those who watch drops only', () => {
  const { EMSGSIZE, EPERM } = osConstants.errno;
  const batch = [{ packet: good }, { packet: good }, { packet: good }];
  const transmit = (tapped: Tapped): void => {
    tapped.refuse(0, EMSGSIZE);
    tapped.refuse(2, EPERM);
  };
  for (const everyPassed of [1, 0]) {
    const tapped = new Tapped();
    tapped.reader.demand({ ...EVERYTHING, everyPassed });
    const refused = tapped.round(batch, transmit).filter(({ reason }) => reason !== 0);
    assert.deepEqual(
      refused.map(({ reason, error, packet }) => [reason, error, packet]),
      [
        [DropReason.PacketTooBig, EMSGSIZE, good],
        [DropReason.SendFailed, EPERM, good],
      ],
    );
  }
  const incoming = new Tapped('decap');
  incoming.reader.demand({ ...EVERYTHING, everyPassed: 0 });
  assert.deepEqual(
    incoming.round(batch, () => incoming.refuse(1, osConstants.errno.EIO)).map(({ reason }) => reason),
    [DropReason.WriteFailed],
  );
});

test('of a super-packet there is one record, and one for each packet of the wire when those are wanted', () => {
  const tapped = new Tapped();
  const batch = [{ packet: good, segments: 3 }, { packet: good }];
  tapped.reader.demand(EVERYTHING);
  assert.deepEqual(
    tapped.round(batch).map(({ segments, segment }) => [segments, segment]),
    [
      [3, -1],
      [1, -1],
    ],
  );
  tapped.reader.demand({ ...EVERYTHING, wirePackets: true });
  const records = tapped.round(batch, () => tapped.refuse(0, osConstants.errno.EPERM, 1, 1));
  assert.deepEqual(
    records.map(({ segments, segment, lengthBytes, reason }) => [segments, segment, lengthBytes, reason]),
    [
      [3, -1, 84, DropReason.SendFailed],
      [3, 0, 29, 0],
      [3, 1, 29, DropReason.SendFailed],
      [3, 2, 29, 0],
      [1, -1, 29, 0],
    ],
  );
  assert.deepEqual(
    records.slice(1, 4).map(({ packet }) => packet[28]),
    [0, 1, 2],
  );
});

test('no more bytes are kept than are wanted, and the length stays that of the packet', () => {
  const tapped = new Tapped();
  tapped.reader.demand({ ...EVERYTHING, keptBytes: 40 });
  const [record] = tapped.round([{ packet: good }]);
  assert.deepEqual([record.packet, record.lengthBytes], [good.subarray(0, 40), good.length]);
});

test('a sample has about one packet in so many, and says so', () => {
  const tapped = new Tapped();
  tapped.reader.demand({ ...EVERYTHING, everyPassed: 10, everyDropped: 0 });
  const batch = [
    ...Array.from({ length: 40 }, () => ({ packet: good })),
    { packet: good, verdict: DropReason.NoLease },
  ];
  let records = 0;
  for (let round = 0; round < 1000; round++) {
    for (const { every, reason } of tapped.round(batch)) {
      assert.deepEqual([every, reason], [10, 0]);
      records++;
    }
  }
  // 40,000 packets; the distances have a standard deviation of 5.5, so the count has one of some 35.
  assert.ok(records > 3600 && records < 4400, `${records}`);
});

test('of those who watch drops only, none misses what is refused, and each stands for what it is', () => {
  const tapped = new Tapped();
  tapped.reader.demand({ ...EVERYTHING, everyPassed: 10, everyDropped: 1 });
  const batch = Array.from({ length: 50 }, () => ({ packet: good }));
  for (let round = 0; round < 100; round++) {
    const records = tapped.round(batch, () => {
      for (let index = 0; index < 50; index += 5) tapped.refuse(index, osConstants.errno.EPERM);
    });
    assert.equal(records.filter(({ reason, every }) => reason === DropReason.SendFailed && every === 1).length, 10);
    assert.ok(records.every(({ reason, every }) => every === (reason === 0 ? 10 : 1)));
  }
});

test('dropped packets are sampled like the others', () => {
  const tapped = new Tapped();
  tapped.reader.demand({ ...EVERYTHING, everyPassed: 10, everyDropped: 10 });
  const batch = Array.from({ length: 50 }, (_, index) =>
    index % 5 === 0 ? { packet: good, verdict: DropReason.NoLease } : { packet: good },
  );
  const records = Array.from({ length: 1000 }, () => tapped.round(batch)).flat();
  const dropped = records.filter(({ reason }) => reason !== 0).length;
  // Means of 5,000 and 1,000; the deviations are some 40 and 30.
  assert.ok(records.length > 4500 && records.length < 5500, `${records.length}`);
  assert.ok(dropped > 750 && dropped < 1250, `${dropped}`);
});

test('a full ring loses records, counted, and takes more when it was read', () => {
  const tapped = new Tapped();
  tapped.reader.demand(EVERYTHING);
  const batch = Array.from({ length: 60 }, () => ({ packet: packetOf('10.5.1.6', '10.5.2.7', {}, 1900) }));
  tapped.place(batch);
  let rounds = 0;
  while (tapped.reader.lost === 0) {
    tapped.place(batch);
    tapped.writer.observe(60);
    tapped.writer.conclude();
    rounds++;
  }
  const { lost } = tapped.reader;
  assert.equal(tapped.read().length, rounds * 60 - lost);
  assert.equal(tapped.round(batch).length, 60);
  assert.equal(tapped.reader.lost, lost);
});

test('what was recorded for earlier watchers can be thrown away', () => {
  const tapped = new Tapped();
  tapped.reader.demand(EVERYTHING);
  tapped.place([{ packet: good }]);
  tapped.writer.observe(1);
  tapped.writer.conclude();
  tapped.reader.discard();
  assert.deepEqual(tapped.read(), []);
  assert.equal(tapped.round([{ packet: good }]).length, 1);
});

test('a reader may take a few at a time', () => {
  const tapped = new Tapped();
  tapped.reader.demand(EVERYTHING);
  tapped.place([{ packet: good }, { packet: good }, { packet: good }]);
  tapped.writer.observe(3);
  assert.deepEqual(tapped.read(), [], 'before the kernel has spoken there is no verdict');
  tapped.writer.conclude();
  assert.equal(
    tapped.reader.drain(() => undefined, 2),
    true,
  );
  assert.equal(
    tapped.reader.drain(() => undefined, 2),
    false,
  );
});

test('a worker that is started again goes on where the last whole batch ended', () => {
  const tapped = new Tapped();
  tapped.reader.demand(EVERYTHING);
  tapped.round([{ packet: good }]);
  tapped.writer.observe(1);
  const { arena, descriptors } = tapped;
  const shared = Reflect.get(tapped, 'shared') as SharedArrayBuffer;
  const again = new TapWriter({ shared, direction: 'decap', arena, descriptors });
  tapped.place([{ packet: good }]);
  again.observe(1);
  again.conclude();
  assert.deepEqual(
    tapped.read().map(({ packet }) => packet),
    [good],
  );
});

test('property: records of any sizes come out in order and unharmed, over many rounds of the ring', () => {
  const tapped = new Tapped('decap');
  tapped.reader.demand(EVERYTHING);
  const sizes = fc.array(fc.integer({ min: 0, max: 1900 }), { minLength: 1, maxLength: 60, size: 'max' });
  let stamp = 0;
  fc.assert(
    fc.property(sizes, (lengths) => {
      const batch = lengths.map((length) => {
        const packet = packetOf('10.5.1.6', '10.5.2.7', { identification: ++stamp & 0xffff }, length);
        return { packet, verdict: stamp % 3 === 0 ? DropReason.SpoofedSource : FORWARD };
      });
      const records = tapped.round(batch);
      assert.deepEqual(
        records.map(({ packet }) => packet),
        batch.map(({ packet }) => packet),
      );
      assert.deepEqual(
        records.map(({ reason }) => reason),
        batch.map(({ verdict }) => verdict),
      );
    }),
    { numRuns: 400 },
  );
  assert.equal(tapped.reader.lost, 0);
});
