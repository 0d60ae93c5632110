import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import fc from 'fast-check';
import { FORWARD } from '../../../src/dataplane/descriptors.js';
import { DropReason } from '../../../src/dataplane/drop-reasons.js';
import { Encapsulator } from '../../../src/dataplane/encap.js';
import { ForwardingTable } from '../../../src/dataplane/forwarding-table.js';
import { checksum } from '../../../src/packet/checksum.js';
import { ipv4HeaderBytes, writeIpv4Checksum } from '../../../src/packet/ipv4.js';
import { ip, prefix } from '../../support/addresses.js';
import { Arena, packetOf } from './arena.js';

const { EMSGSIZE, ENETUNREACH } = constants.errno;

const table = ForwardingTable.create({ network: prefix('10.5.0.0/16'), subnetLength: 24 });
table.setOwn(prefix('10.5.1.0/24'));
table.set(prefix('10.5.34.0/24'), ip('192.168.64.3'), 8285);
table.set(prefix('10.5.200.0/24'), ip('200.1.2.3'), 65535);

function walked(...packets: Buffer[]): Arena & { encapsulator: Encapsulator } {
  const arena = new Arena();
  for (const packet of packets) arena.add(packet);
  const cut = (index: number): number => arena.putCut(arena.packet(index));
  const encapsulator = new Encapsulator({ table, cut, ...arena.parts('encap', cut) });
  encapsulator.walk(arena.count);
  return Object.assign(arena, { encapsulator });
}

test('a packet for a leased subnet goes to its owner, one hop older and otherwise untouched', () => {
  const packet = packetOf('10.5.1.6', '10.5.34.7', { ttl: 63, identification: 0x1234, fragmentWord: 0x4000 });
  const arena = walked(packet, packetOf('10.5.1.6', '10.5.200.1'));
  assert.equal(arena.verdict(0), FORWARD);
  assert.deepEqual(arena.nextHop(0), { address: ip('192.168.64.3'), port: 8285 });
  assert.deepEqual(arena.nextHop(1), { address: ip('200.1.2.3'), port: 65535 });
  const expected = Buffer.from(packet);
  expected[8] = 62;
  writeIpv4Checksum(expected, 0);
  assert.deepEqual(arena.packet(0), expected);
});

const destinations = [
  ['10.5.2.1', DropReason.NoLease],
  ['10.5.255.255', DropReason.NoLease],
  ['10.5.1.9', DropReason.OwnSubnet],
  ['10.6.0.1', DropReason.OutsideNetwork],
  ['255.255.255.255', DropReason.OutsideNetwork],
  ['224.0.0.251', DropReason.OutsideNetwork],
] as const;
for (const [destination, reason] of destinations) {
  test(`a packet to ${destination} is dropped for reason ${reason}`, () => {
    assert.equal(walked(packetOf('10.5.1.6', destination)).verdict(0), reason);
  });
}

test('a TTL of one or zero is the last hop, and the packet stays as it came', () => {
  const last = packetOf('10.5.1.6', '10.5.34.7', { ttl: 1 });
  const none = packetOf('10.5.1.6', '10.5.34.7', { ttl: 0 });
  const arena = walked(last, none, packetOf('10.5.1.6', '10.5.34.7', { ttl: 2 }));
  assert.deepEqual([arena.verdict(0), arena.verdict(1)], [DropReason.TtlExceeded, DropReason.TtlExceeded]);
  assert.deepEqual(arena.packet(0), last);
  assert.equal(arena.verdict(2), FORWARD);
});

test('what is no whole IPv4 packet is dropped, whatever its bytes claim', () => {
  const good = packetOf('10.5.1.6', '10.5.34.7');
  const changed = (at: number, value: number): Buffer => {
    const packet = Buffer.from(good);
    packet[at] = value;
    return packet;
  };
  const cases: [string, Buffer, number][] = [
    ['nothing', Buffer.alloc(0), DropReason.Truncated],
    ['one byte', good.subarray(0, 1), DropReason.Truncated],
    ['19 bytes', good.subarray(0, 19), DropReason.Truncated],
    ['IPv6', changed(0, 0x60), DropReason.NotIpv4],
    ['version 0', changed(0, 0x05), DropReason.NotIpv4],
    ['a header of 16 bytes', changed(0, 0x44), DropReason.Truncated],
    ['a header longer than the packet', Buffer.concat([changed(0, 0x4f).subarray(0, 20)]), DropReason.Truncated],
    ['a total length that is not there', changed(3, good.length + 1), DropReason.Truncated],
    ['a total length inside the header', changed(3, 19), DropReason.Truncated],
  ];
  for (const [what, packet, reason] of cases) assert.equal(walked(packet).verdict(0), reason, what);
});

test('padding after the total length is not sent', () => {
  const packet = packetOf('10.5.1.6', '10.5.34.7');
  assert.equal(walked(Buffer.concat([packet, Buffer.alloc(9)])).packet(0).length, packet.length);
});

test('counters add up, and only what somebody is to be told about is handed over', () => {
  const arena = walked(
    packetOf('10.5.1.6', '10.5.34.7', {}, 1000),
    packetOf('10.5.1.6', '10.5.2.1', {}, 1000),
    packetOf('10.5.1.6', '10.5.34.7', { ttl: 1 }, 10),
    packetOf('10.5.1.6', '10.5.1.9'),
    packetOf('10.5.1.6', '10.5.34.7', {}, 2),
  );
  arena.setError(0, 0);
  arena.setError(4, ENETUNREACH);
  arena.encapsulator.settle(arena.count);
  assert.deepEqual(arena.counts(), {
    packets: 1,
    bytes: 1020,
    dropped: { 'no-lease': 1, 'ttl-exceeded': 1, 'own-subnet': 1, 'send-failed': 1 },
    batches: 1,
    receiveErrors: 0,
    slowPathOverflows: 0,
  });
  const records = arena.handedOver();
  assert.deepEqual(
    records.map(({ reason, packet }) => [reason, packet.length]),
    [
      [DropReason.NoLease, 576],
      [DropReason.TtlExceeded, 30],
    ],
  );
});

test('a packet that the path cannot carry is handed over as it came: whole if it may be cut', () => {
  const may = packetOf('10.5.1.6', '10.5.34.7', { ttl: 9 }, 1400);
  const mayNot = packetOf('10.5.1.6', '10.5.34.7', { ttl: 1 + 1, fragmentWord: 0x4000 }, 1400);
  const arena = walked(may, mayNot);
  arena.setError(0, EMSGSIZE);
  arena.setError(1, EMSGSIZE);
  arena.encapsulator.settle(arena.count);
  assert.deepEqual(arena.counts().dropped, { 'packet-too-big': 2 });
  const [whole, quoted] = arena.handedOver();
  assert.deepEqual(whole.packet, may);
  assert.equal(whole.underlayAddress, ip('192.168.64.3'));
  assert.deepEqual(quoted.packet, mayNot.subarray(0, 576));
});

/** A walked super-packet of `segments` packets, of which the cut shows which one was asked for in its last byte. */
function superPacket(segments: number, header: { ttl?: number; fragmentWord?: number }, destination = '10.5.34.7') {
  const packet = packetOf('10.5.1.6', destination, header, 2000);
  const arena = new Arena();
  arena.add(packet);
  arena.setSegments(0, segments);
  const cut = (_index: number, segment: number): number => {
    const whole = arena.packet(0).subarray(0, 1000);
    whole[999] = segment;
    return arena.putCut(whole);
  };
  const encapsulator = new Encapsulator({ table, cut, ...arena.parts('encap', cut) });
  encapsulator.walk(1);
  return Object.assign(arena, { encapsulator, original: packet });
}

test('a super-packet has one verdict and counts as the packets that it is on the wire', () => {
  const sent = superPacket(45, { ttl: 9 });
  assert.equal(sent.verdict(0), FORWARD);
  sent.setPartlySent(0, { sentPackets: 45, sentBytes: 66_000 });
  sent.encapsulator.settle(1);
  assert.deepEqual(
    { ...sent.counts(), batches: 0 },
    { ...sent.counts(), packets: 45, bytes: 66_000, dropped: {}, batches: 0 },
  );

  const unroutable = superPacket(45, {}, '10.5.2.1');
  unroutable.encapsulator.settle(1);
  assert.deepEqual(unroutable.counts().dropped, { 'no-lease': 45 });
  const [{ packet: quoted }] = unroutable.handedOver();
  assert.equal(quoted.length, 576, 'the first packet of it is shown');

  const partly = superPacket(45, {});
  partly.setPartlySent(0, { sentPackets: 40, sentBytes: 40_000 });
  partly.encapsulator.settle(1);
  assert.deepEqual(
    { packets: partly.counts().packets, dropped: partly.counts().dropped },
    { packets: 40, dropped: { 'send-failed': 5 } },
  );
});

test('when the kernel refuses packets of a super-packet for several reasons, each counts under its own', () => {
  const arena = superPacket(45, {});
  arena.setPartlySent(0, { sentPackets: 10, sentBytes: 14_000, tooBig: [20, 22] });
  arena.encapsulator.settle(1);
  assert.deepEqual(arena.counts().dropped, { 'packet-too-big': 3, 'send-failed': 32 });
  assert.deepEqual(
    arena.handedOver().map(({ packet }) => packet[999]),
    [20, 21, 22],
  );
});

test('a super-packet whose virtio header does not fit it is dropped as one packet', () => {
  const arena = superPacket(0, {});
  assert.equal(arena.verdict(0), DropReason.Truncated);
  arena.encapsulator.settle(1);
  assert.deepEqual(arena.counts().dropped, { truncated: 1 });
});

test('a super-packet too big for the path: one quote if it must not be fragmented, else each packet that failed', () => {
  const outcome = { sentPackets: 1, sentBytes: 10, tooBig: [0, 3] } as const;
  const mayNot = superPacket(5, { ttl: 9, fragmentWord: 0x4000 });
  mayNot.setPartlySent(0, outcome);
  mayNot.encapsulator.settle(1);
  const [quoted, ...none] = mayNot.handedOver();
  assert.deepEqual(none, []);
  assert.equal(quoted.packet.length, 576);
  assert.deepEqual(quoted.packet, mayNot.original.subarray(0, 576), 'with the TTL it came with');
  assert.deepEqual(mayNot.counts().dropped, { 'packet-too-big': 4 });

  const may = superPacket(5, {});
  may.setPartlySent(0, outcome);
  may.encapsulator.settle(1);
  assert.deepEqual(
    may.handedOver().map(({ packet }) => [packet.length, packet[999]]),
    [0, 1, 2, 3].map((segment) => [1000, segment]),
  );
});

test('property: for any header, a forwarded packet has a TTL lower by one and a checksum right if it was right before', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 20, maxLength: 60 }),
      fc.integer({ min: 5, max: 15 }),
      fc.nat(300),
      (random, words, payloadBytes) => {
        const packet = Buffer.alloc(words * 4 + payloadBytes, 0xab);
        Buffer.from(random).copy(packet, 0, 0, Math.min(random.length, words * 4));
        packet[0] = 0x40 | words;
        packet.writeUInt16BE(packet.length, 2);
        packet.writeUInt32BE(ip('10.5.34.7'), 16);
        writeIpv4Checksum(packet, 0);
        const arena = walked(packet);
        if (packet[8] <= 1) {
          assert.equal(arena.verdict(0), DropReason.TtlExceeded);
          return;
        }
        assert.equal(arena.verdict(0), FORWARD);
        const sent = arena.packet(0);
        assert.equal(sent[8], packet[8] - 1);
        assert.equal(checksum(sent, 0, ipv4HeaderBytes(sent, 0)), 0);
        assert.deepEqual(sent.subarray(12), packet.subarray(12));
        arena.setError(0, EMSGSIZE);
        arena.encapsulator.settle(1);
        const [{ packet: shown }] = arena.handedOver();
        assert.deepEqual(shown.subarray(12), packet.subarray(12, shown.length));
        assert.equal(shown[8], packet[8]);
        assert.equal(checksum(shown, 0, words * 4), 0);
      },
    ),
  );
});

test('property: no bytes whatever make the walk throw or read beyond what was received', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
      const arena = walked(Buffer.from(bytes));
      if (arena.verdict(0) === FORWARD)
        assert.ok(arena.packet(0).length >= 20 && arena.packet(0).length <= bytes.length);
      arena.setError(0, 0);
      arena.encapsulator.settle(1);
      const { packets, dropped } = arena.counts();
      assert.equal(packets + Object.values(dropped).reduce((sum, some) => sum + some, 0), 1);
    }),
    { numRuns: 2000 },
  );
});

test('the last packet of each reason is kept as it came, with whom it was for', () => {
  const good = (identification: number) => packetOf('10.5.1.6', '10.5.34.7', { ttl: 63, identification });
  const first = packetOf('10.5.1.6', '10.5.9.9', { identification: 1 });
  const second = packetOf('10.5.1.6', '10.5.9.9', { identification: 2 });
  const arena = walked(first, good(3), second, good(4));
  assert.deepEqual(arena.lastDrops(), []);
  arena.setError(1, ENETUNREACH);
  arena.setError(3, EMSGSIZE);
  const before = Date.now();
  arena.encapsulator.settle(arena.count);
  const drops = arena.lastDrops();
  assert.ok(drops.every(({ atMs }) => atMs >= before && atMs <= Date.now()));
  assert.deepEqual(
    drops.map(({ reason, packet, lengthBytes, underlayAddress, error }) => [
      ...[reason, packet, lengthBytes, underlayAddress, error],
    ]),
    [
      [DropReason.NoLease, second, second.length, 0, 0],
      [DropReason.PacketTooBig, good(4), good(4).length, ip('192.168.64.3'), EMSGSIZE],
      [DropReason.SendFailed, good(3), good(3).length, ip('192.168.64.3'), ENETUNREACH],
    ],
  );
});
