import assert from 'node:assert/strict';
import { constants as osConstants } from 'node:os';
import { test } from 'node:test';
import fc from 'fast-check';
import { DROP_REASONS, DropReason } from '../../../src/dataplane/drop-reasons.js';
import { describePacket, packetFacts } from '../../../src/debug/packet-facts.js';
import { PacketStatistics } from '../../../src/debug/trace/packet-statistics.js';
import { traceLine, tracedPacket } from '../../../src/debug/trace/trace-line.js';
import { describeVerdict } from '../../../src/debug/verdict.js';
import { duration, fileSize } from '../../../src/flannelctl/packet-options.js';
import { describeLoss } from '../../../src/flannelctl/watch-packets.js';
import type { TapEvent, TapHello } from '../../../src/observe/tap-protocol.js';
import { parsePrefix } from '../../../src/packet/address.js';
import { udpPacket } from '../../harness/inner-packet.js';
import { packetOf } from '../dataplane/arena.js';
import { ip } from '../../support/addresses.js';

const hello: TapHello = {
  node: '192.168.64.1',
  device: 'flannel0',
  externalInterface: 'eth0',
  tunnelEnd: { address: ip('192.168.64.1'), port: 8285 },
  reasons: [{ name: '', description: '' }, ...DROP_REASONS],
};

function event(changes: Partial<TapEvent> = {}): TapEvent {
  const packet = changes.packet ?? udpPacket({ source: '10.5.1.6', destination: '10.5.2.7' });
  return {
    ...{ timeNs: 1_795_262_400_000_000_007n, direction: 'encap', queue: 0, reason: 0, error: 0 },
    ...{ underlayAddress: ip('192.168.64.2'), underlayPort: 8285, lease: parsePrefix('10.5.2.0/24') },
    ...{ lengthBytes: packet.length, segments: 1, segment: -1, batchPackets: 1, merged: 1, every: 1, packet },
    ...changes,
  };
}

/** A packet with the given bytes behind its IP header. */
function carrying(protocol: number, transport: readonly number[], fragmentWord = 0): Buffer {
  const packet = packetOf('10.5.1.6', '10.5.2.7', { protocol, fragmentWord, ttl: 7 }, transport.length);
  packet.set(transport, 20);
  return packet;
}

test('a packet is described by its protocol', () => {
  const from = '10.5.1.6';
  const to = '10.5.2.7';
  const tcp = (flags: number) =>
    carrying(6, [0x1f, 0x90, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
  const described: readonly (readonly [Buffer, string])[] = [
    [tcp(0x02), `${from}:8080 > ${to}:80 tcp [S]`],
    [tcp(0x12), `${from}:8080 > ${to}:80 tcp [S.]`],
    [tcp(0x19), `${from}:8080 > ${to}:80 tcp [FP.]`],
    [tcp(0), `${from}:8080 > ${to}:80 tcp [none]`],
    [carrying(17, [0, 53, 0x30, 0x39, 0, 8, 0, 0]), `${from}:53 > ${to}:12345 udp`],
    [carrying(132, [0, 53, 0x30, 0x39]), `${from}:53 > ${to}:12345 sctp`],
    [carrying(1, [8, 0, 0, 0, 0, 7, 1, 0]), `${from} > ${to} icmp echo request (type 8 code 0) id 7 seq 256`],
    [carrying(1, [3, 4, 0, 0, 0, 0, 5, 0]), `${from} > ${to} icmp unreachable (type 3 code 4)`],
    [carrying(1, [42, 1]), `${from} > ${to} icmp type (type 42 code 1)`],
    [carrying(253, [1, 2, 3]), `${from} > ${to} 253`],
    [carrying(17, [0, 53, 0, 54, 0, 0, 0, 0], 0x2000), `${from}:53 > ${to}:54 udp fragment at 0`],
    [carrying(17, [0, 53, 0, 54, 0, 0, 0, 0], 0x2000 | 185), `${from} > ${to} udp fragment at 1480`],
    [carrying(17, [0, 53, 0, 54, 0, 0, 0, 0], 185), `${from} > ${to} udp last fragment at 1480`],
    [Buffer.from([0x60, 0, 0, 0]), 'IPv6 (60000000)'],
    [Buffer.from('who?'), 'no IPv4 packet (77686f3f)'],
    [Buffer.alloc(0), 'no IPv4 packet (empty)'],
  ];
  for (const [packet, expected] of described) assert.equal(describePacket(packet, packet.length), expected);
});

test('property: no bytes are too strange to describe', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80, size: 'max' }), fc.nat(65535), (bytes, length) => {
      const packet = Buffer.from(bytes);
      if (packet.length > 0) packet[0] = (packet[0] & 0x0f) | 0x40;
      const { source, ttl } = packetFacts(packet, length);
      assert.equal(source === null, packet.length < 20);
      assert.equal(ttl === null, packet.length < 20);
      assert.ok(describePacket(packet, length).length > 0);
    }),
  );
});

test('a line of JSON has what scripts rely on', () => {
  const tunnel = { source: '192.168.64.1', destination: '192.168.64.2' };
  const inner = { source: '10.5.1.6', destination: '10.5.2.7', protocol: 'udp', length: 33, ttl: 64 };
  assert.deepEqual(tracedPacket(event(), hello), {
    time: '2026-11-21T12:00:00.000000007Z',
    ...{ direction: 'encap', verdict: 'forwarded', reason: null },
    inner: { ...inner, sourcePort: 1111, destinationPort: 7777 },
    ...{ outer: tunnel, lease: '10.5.2.0/24' },
  });
  const incoming = tracedPacket(event({ direction: 'decap', lease: undefined }), hello);
  assert.deepEqual(
    [incoming.verdict, incoming.outer, incoming.lease],
    ['delivered', { source: '192.168.64.2', destination: '192.168.64.1' }, null],
  );
  const lost = tracedPacket(event({ reason: DropReason.NoLease, underlayAddress: 0 }), hello);
  assert.deepEqual([lost.verdict, lost.reason, lost.outer], ['dropped', 'no-lease', null]);
  assert.equal(tracedPacket(event({ segments: 45, lengthBytes: 64_000 }), hello).segments, 45);
  assert.equal(tracedPacket(event({ reason: 77 }), hello).reason, 'reason-77', 'of a later daemon');
});

test('a line for people tells a super-packet from others, and what the kernel said', () => {
  const line = traceLine(event({ segments: 45, lengthBytes: 64_000 }), hello);
  assert.match(line.packet, /udp length 64000 \(super-packet, 45 packets on the wire\) ttl 64$/);
  const merged = event({ direction: 'decap', merged: 12 });
  assert.match(traceLine(merged, hello).packet, /\(merged, 12 packets delivered as one\) ttl 64$/);
  assert.deepEqual([tracedPacket(merged, hello).merged, tracedPacket(event(), hello).merged], [12, undefined]);
  assert.match(line.time, /^\d\d:\d\d:\d\d\.000000$/);
  assert.equal(line.dropped, false);
  assert.equal(
    describeVerdict(event({ reason: DropReason.SendFailed, error: osConstants.errno.EPERM }), hello),
    'dropped: send-failed (EPERM), to 192.168.64.2:8285: the kernel refused the datagram ' +
      '(no route, no buffer space, a firewall rule, interface down)',
  );
});

test('statistics count packets of the wire, and what a sample stands for', () => {
  const statistics = new PacketStatistics();
  statistics.add(event(), hello);
  statistics.add(event({ every: 10, segments: 3, lengthBytes: 3000 }), hello);
  for (let times = 0; times < 50; times++) statistics.add(event({ reason: DropReason.NoLease }), hello);
  assert.deepEqual(statistics.rows(), [
    { direction: 'encap', verdict: 'dropped', reason: 'no-lease', shown: 50, packets: 50, bytes: 1650 },
    { direction: 'encap', verdict: 'forwarded', reason: null, shown: 2, packets: 31, bytes: 30_033 },
  ]);
});

test('losses are told with what helps, and only when there are any', () => {
  assert.equal(describeLoss({ ring: 0, reader: 0 }), undefined);
  assert.match(
    describeLoss({ ring: 1, reader: 2000 }) ?? '',
    /^1 record found no room at the workers, 2,000 records came faster .*: ask for fewer with a filter, --drops or --sample$/,
  );
});

test('times and sizes are read as people write them', () => {
  assert.deepEqual(['30s', '5m', '1h', '2', '0.5s'].map(duration), [30_000, 300_000, 3_600_000, 2000, 500]);
  assert.deepEqual(['100', '1k', '100M', '2G'].map(fileSize), [100, 1024, 104_857_600, 2_147_483_648]);
  for (const text of ['', '0s', '-1s', '5d', 's', '1e3', '999999h']) assert.throws(() => duration(text), /30s/, text);
  for (const text of ['', '0', '1T', '1.5M', 'M']) assert.throws(() => fileSize(text), /100M/, text);
});
