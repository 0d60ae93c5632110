/** Whatever bytes arrive, the walks and what comes after them stay within the packet and within the rules. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { IcmpRateLimiter, LINUX_ICMP_RATE_LIMITS } from '../../../src/backend/udp/icmp-rate-limit.js';
import { SlowPath } from '../../../src/backend/udp/slow-path.js';
import { StrangerLog } from '../../../src/backend/udp/stranger-log.js';
import { Decapsulator, type SourceCheck } from '../../../src/dataplane/decap.js';
import { FORWARD, OFFSET } from '../../../src/dataplane/descriptors.js';
import { DROP_REASONS, DropReason } from '../../../src/dataplane/drop-reasons.js';
import { Encapsulator } from '../../../src/dataplane/encap.js';
import { ForwardingTable } from '../../../src/dataplane/forwarding-table.js';
import { describePacket } from '../../../src/debug/packet-facts.js';
import { silentLogger } from '../../../src/log.js';
import { checksum } from '../../../src/packet/checksum.js';
import { fragmentIpv4 } from '../../../src/packet/fragment.js';
import {
  FRAGMENT_OFFSET_MASK,
  ipv4Destination,
  ipv4Shape,
  ipv4Source,
  ipv4TotalBytes,
} from '../../../src/packet/ipv4.js';
import { ip, prefix } from '../../support/addresses.js';
import { Arena, packetOf } from './arena.js';

const RUNS = { numRuns: 2000 };
const PEER = ip('192.168.64.3');

const table = ForwardingTable.create({ network: prefix('10.5.0.0/16'), subnetLength: 24 });
table.setOwn(prefix('10.5.1.0/24'));
table.set(prefix('10.5.34.0/24'), PEER, 8285);
table.setOwnAddresses([ip('192.168.64.1'), ip('10.5.1.0')]);

/** Bytes of no meaning, and packets of which some bytes are wrong. */
const packets = fc.oneof(
  fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
  fc
    .record({
      ends: fc.constantFrom(['10.5.34.7', '10.5.1.6'] as const, ['10.5.1.6', '10.5.34.7'] as const),
      payloadBytes: fc.nat(1400),
      changes: fc.array(fc.tuple(fc.nat(39), fc.nat(255)), { maxLength: 4 }),
      fragmentWord: fc.option(fc.nat(0xffff), { nil: 0 }),
      kept: fc.option(fc.nat(60)),
    })
    .map(({ ends: [source, destination], payloadBytes, fragmentWord, changes, kept }) => {
      const packet = packetOf(source, destination, { totalBytes: 20 + payloadBytes, fragmentWord }, payloadBytes);
      for (const [at, value] of changes) if (at < packet.length) packet[at] = value;
      return kept === null ? packet : packet.subarray(0, kept);
    }),
);
const wellFormed = packets.filter((packet) => ipv4Shape(packet, 0, packet.length) === 'ok');

/** The same but for one hop, in an arena of which nothing else has changed. */
function assertOneHopOlder(arena: Arena, before: Buffer, packet: Buffer): void {
  const after = Buffer.from(arena.arena);
  const offset = arena.descriptors[OFFSET];
  assert.equal(after[offset + 8], before[offset + 8] - 1);
  // One's complement arithmetic has two zeros; the sum over a header that was right stays right.
  const headerBytes = (packet[0] & 0x0f) * 4;
  const wasRight = checksum(before, offset, headerBytes) === 0;
  if (wasRight) assert.equal(checksum(after, offset, headerBytes), 0);
  for (const at of [8, 10, 11]) after[offset + at] = before[offset + at];
  assert.ok(after.equals(before));
}

describe('hostile bytes', () => {
  for (const sourceCheck of ['strict', 'outer', 'off'] satisfies SourceCheck[]) {
    test(`decapsulation with --source-check=${sourceCheck} lets in what it may, one hop older, and counts the rest`, () => {
      fc.assert(
        fc.property(packets, fc.constantFrom(PEER, 0xc0a84063), (packet, sender) => {
          const arena = new Arena();
          arena.add(packet, sender | 0);
          const before = Buffer.from(arena.arena);
          const decapsulator = new Decapsulator({ table, sourceCheck, ...arena.parts('decap') });
          decapsulator.walk(1);
          const verdict = arena.verdict(0);
          if (verdict === FORWARD) {
            assert.equal(ipv4Shape(packet, 0, packet.length), 'ok');
            assert.ok(sender === PEER || sourceCheck === 'off');
            assert.equal(ipv4Destination(packet, 0) >>> 8, 0x0a0501);
            const source = ipv4Source(packet, 0);
            if (sourceCheck === 'strict') assert.ok(source >>> 16 !== 0x0a05 || source >>> 8 === 0x0a0522);
            assertOneHopOlder(arena, before, packet);
          } else {
            assert.ok(DROP_REASONS[verdict - 1].directions.includes('decap'));
            assert.ok(arena.arena.equals(before));
          }
          arena.setError(0, 0);
          decapsulator.settle(1);
          const { packets: forwarded, dropped } = arena.counts();
          assert.equal(
            Object.values(dropped).reduce((sum, some) => sum + some, forwarded),
            1,
          );
        }),
        RUNS,
      );
    });
  }

  test('encapsulation sends what it may to the lease of its destination, one hop older, and counts the rest', () => {
    fc.assert(
      fc.property(packets, (packet) => {
        const arena = new Arena();
        arena.add(packet);
        const before = Buffer.from(arena.arena);
        const cut = (): number => arena.putCut(packet);
        const encapsulator = new Encapsulator({ table, cut, ...arena.parts('encap', cut) });
        encapsulator.walk(1);
        const verdict = arena.verdict(0);
        if (verdict === FORWARD) {
          assert.equal(ipv4Shape(packet, 0, packet.length), 'ok');
          assert.equal(ipv4Destination(packet, 0) >>> 8, 0x0a0522);
          assert.deepEqual(arena.nextHop(0), { address: PEER, port: 8285 });
          assertOneHopOlder(arena, before, packet);
        } else {
          assert.ok(DROP_REASONS[verdict - 1].directions.includes('encap'));
          assert.ok(arena.arena.equals(before));
        }
        arena.setError(0, 0);
        encapsulator.settle(1);
        const { packets: forwarded, dropped } = arena.counts();
        assert.equal(
          Object.values(dropped).reduce((sum, some) => sum + some, forwarded),
          1,
        );
      }),
      RUNS,
    );
  });

  test('what the slow path sends about any packet is a whole packet of its own, and never about the unanswerable', () => {
    const reasons = [DropReason.NoLease, DropReason.TtlExceeded, DropReason.PacketTooBig];
    fc.assert(
      fc.property(packets, fc.constantFrom(...reasons), fc.integer({ min: 0, max: 1500 }), (packet, reason, mtu) => {
        const sent: Buffer[] = [];
        const path = new SlowPath({
          sourceAddress: ip('10.5.1.0'),
          send: (answer, done) => {
            sent.push(answer);
            done(true);
          },
          rateLimiter: new IcmpRateLimiter(),
          strangers: new StrangerLog(silentLogger),
          nowMs: () => 0,
        });
        path.handle({ reason, packet, senderAddress: 0, innerMtuBytes: mtu });
        for (const one of sent) {
          assert.equal(ipv4Shape(one, 0, one.length), 'ok');
          assert.equal(ipv4TotalBytes(one, 0), one.length);
          assert.equal(checksum(one, 0, (one[0] & 0x0f) * 4), 0);
        }
      }),
      RUNS,
    );
  });

  test('fragments fit, lie within what a datagram can be, and hold the payload once', () => {
    fc.assert(
      fc.property(wellFormed, fc.integer({ min: 28, max: 1500 }), (packet, mtu) => {
        const fragments = fragmentIpv4(packet, 0, mtu) ?? [];
        if (fragments.length < 2) return;
        const first = (packet.readUInt16BE(6) & FRAGMENT_OFFSET_MASK) * 8;
        const payload = packet.subarray((packet[0] & 0x0f) * 4, ipv4TotalBytes(packet, 0));
        const again = Buffer.alloc(payload.length);
        let bytes = 0;
        for (const fragment of fragments) {
          assert.ok(fragment.length <= mtu && ipv4Shape(fragment, 0, fragment.length) === 'ok');
          const offset = (fragment.readUInt16BE(6) & FRAGMENT_OFFSET_MASK) * 8;
          const data = fragment.subarray((fragment[0] & 0x0f) * 4);
          data.copy(again, offset - first);
          bytes += data.length;
        }
        assert.equal(bytes, payload.length);
        assert.ok(again.equals(payload));
      }),
      RUNS,
    );
  });

  test('any packet can be described, however little of it is there', () => {
    fc.assert(
      fc.property(packets, fc.nat(65535), (packet, more) => {
        const text = describePacket(packet, packet.length + more);
        assert.ok(text.length > 0 && !/undefined|NaN/.test(text) && !text.includes('\n'));
      }),
      RUNS,
    );
  });
});

describe('a flood of packets about which something is said', () => {
  test('fills neither log nor memory, however many strangers there are', () => {
    const lines: string[] = [];
    const strangers = new StrangerLog({ ...silentLogger, warn: (line) => void lines.push(line) });
    for (let sender = 0; sender < 300_000; sender++) strangers.dropped(sender >>> 0, sender / 1000);
    assert.equal(lines.length, 129);
  });

  test('is answered by no more ICMP errors than Linux would send', () => {
    const limiter = new IcmpRateLimiter();
    let allowed = 0;
    const seconds = 10;
    for (let packet = 0; packet < 300_000; packet++) {
      if (limiter.allow(packet, (packet * seconds * 1000) / 300_000)) allowed++;
    }
    const { globalBurst, globalPerSecond } = LINUX_ICMP_RATE_LIMITS;
    assert.ok(allowed <= globalBurst + seconds * globalPerSecond, String(allowed));
  });
});
