import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import { Decapsulator, type SourceCheck } from '../../../src/dataplane/decap.js';
import { FORWARD } from '../../../src/dataplane/descriptors.js';
import { DropReason } from '../../../src/dataplane/drop-reasons.js';
import { LAST_DROP_BYTES } from '../../../src/dataplane/last-drops.js';
import { ForwardingTable } from '../../../src/dataplane/forwarding-table.js';
import { writeIpv4Checksum } from '../../../src/packet/ipv4.js';
import { ip, prefix } from '../../support/addresses.js';
import { Arena, packetOf } from './arena.js';

const { EIO } = constants.errno;

const PEER = '192.168.64.3';
const OTHER_PEER = '200.1.2.3';
const TRUSTED = '172.30.0.9';
const TRUSTED_PEER = '172.30.0.10';
const STRANGER = '192.168.64.99';

const table = ForwardingTable.create({
  network: prefix('10.5.0.0/16'),
  subnetLength: 24,
  trustedSources: [prefix('172.30.0.0/24')],
});
table.setOwn(prefix('10.5.1.0/24'));
table.set(prefix('10.5.34.0/24'), ip(PEER), 8285);
table.set(prefix('10.5.35.0/24'), ip(OTHER_PEER), 8285);
table.set(prefix('10.5.36.0/24'), ip(TRUSTED_PEER), 8285);
table.setOwnAddresses([ip('192.168.64.1'), ip('10.5.1.0')]);

function walked(sourceCheck: SourceCheck, ...datagrams: [packet: Buffer, sender: string][]) {
  const arena = new Arena();
  for (const [packet, sender] of datagrams) arena.add(packet, ip(sender) | 0);
  const decapsulator = new Decapsulator({ table, sourceCheck, ...arena.parts('decap') });
  decapsulator.walk(arena.count);
  return Object.assign(arena, { decapsulator });
}

test("a member's packet for our subnet is delivered, one hop older and otherwise untouched", () => {
  const packet = packetOf('10.5.34.7', '10.5.1.6', { ttl: 62 });
  const arena = walked('strict', [packet, PEER]);
  assert.equal(arena.verdict(0), FORWARD);
  const expected = Buffer.from(packet);
  expected[8] = 61;
  writeIpv4Checksum(expected, 0);
  assert.deepEqual(arena.packet(0), expected);
});

const { UnknownSender, SpoofedSource, ForeignDestination, TtlExceeded, NotIpv4, Truncated } = DropReason;

// Who sends what, and the verdict of strict, outer and off.
const cases: [what: string, sender: string, source: string, destination: string, verdicts: [number, number, number]][] =
  [
    ['a pod of the sender', PEER, '10.5.34.7', '10.5.1.6', [FORWARD, FORWARD, FORWARD]],
    ["the sender's overlay device", PEER, '10.5.34.0', '10.5.1.6', [FORWARD, FORWARD, FORWARD]],
    ["another node's pod", PEER, '10.5.35.7', '10.5.1.6', [SpoofedSource, FORWARD, FORWARD]],
    ['a pod of ours', PEER, '10.5.1.7', '10.5.1.6', [SpoofedSource, FORWARD, FORWARD]],
    ['an unleased subnet', PEER, '10.5.77.7', '10.5.1.6', [SpoofedSource, FORWARD, FORWARD]],
    ["the sender's own address", PEER, PEER, '10.5.1.6', [FORWARD, FORWARD, FORWARD]],
    ['a client that the sender forwards', PEER, '8.8.8.8', '10.5.1.6', [FORWARD, FORWARD, FORWARD]],
    ['loopback', PEER, '127.0.0.1', '10.5.1.6', [SpoofedSource, FORWARD, FORWARD]],
    ['multicast', PEER, '224.0.0.1', '10.5.1.6', [SpoofedSource, FORWARD, FORWARD]],
    ['reserved', PEER, '240.0.0.1', '10.5.1.6', [SpoofedSource, FORWARD, FORWARD]],
    ['broadcast', PEER, '255.255.255.255', '10.5.1.6', [SpoofedSource, FORWARD, FORWARD]],
    ['nobody', PEER, '0.0.0.0', '10.5.1.6', [SpoofedSource, FORWARD, FORWARD]],
    ['link-local', PEER, '169.254.1.1', '10.5.1.6', [SpoofedSource, FORWARD, FORWARD]],
    ["this host's own address", PEER, '192.168.64.1', '10.5.1.6', [SpoofedSource, FORWARD, FORWARD]],
    ['a stranger', STRANGER, '10.5.34.7', '10.5.1.6', [UnknownSender, UnknownSender, FORWARD]],
    ['a trusted source for a lease', TRUSTED, '10.5.34.7', '10.5.1.6', [FORWARD, FORWARD, FORWARD]],
    ['a trusted source for our own lease', TRUSTED, '10.5.1.7', '10.5.1.6', [SpoofedSource, FORWARD, FORWARD]],
    ['a trusted source for no lease', TRUSTED, '10.5.77.7', '10.5.1.6', [SpoofedSource, FORWARD, FORWARD]],
    ['a trusted node for its lease', TRUSTED_PEER, '10.5.36.7', '10.5.1.6', [FORWARD, FORWARD, FORWARD]],
    ["a trusted node for another's lease", TRUSTED_PEER, '10.5.34.7', '10.5.1.6', [SpoofedSource, FORWARD, FORWARD]],
    ['a destination elsewhere in the Network', PEER, '10.5.34.7', '10.5.35.6', Array(3).fill(ForeignDestination)],
    ['a destination outside', PEER, '10.5.34.7', '8.8.8.8', Array(3).fill(ForeignDestination)],
    ["this host's external address", PEER, '10.5.34.7', '192.168.64.1', Array(3).fill(ForeignDestination)],
    ['loopback as destination', PEER, '10.5.34.7', '127.0.0.1', Array(3).fill(ForeignDestination)],
  ] as typeof cases;

for (const [what, sender, source, destination, verdicts] of cases) {
  test(`${what}: ${source} to ${destination}, sent by ${sender}`, () => {
    const packet = packetOf(source, destination);
    for (const [index, check] of (['strict', 'outer', 'off'] as const).entries()) {
      assert.equal(walked(check, [packet, sender]).verdict(0), verdicts[index], check);
    }
  });
}

test('what is no whole IPv4 packet is dropped', () => {
  const good = packetOf('10.5.34.7', '10.5.1.6');
  const six = Buffer.from(good);
  six[0] = 0x60;
  const arena = walked('strict', [Buffer.alloc(0), PEER], [good.subarray(0, 60), PEER], [six, PEER]);
  assert.deepEqual(
    [0, 1, 2].map((index) => arena.verdict(index)),
    [Truncated, Truncated, NotIpv4],
  );
});

test('each stranger is reported once, without its packet', () => {
  const packet = packetOf('10.5.34.7', '10.5.1.6');
  const arena = walked('strict', [packet, STRANGER], [packet, STRANGER], [packet, '192.168.64.98']);
  arena.decapsulator.settle(arena.count);
  assert.deepEqual(arena.counts().dropped, { 'unknown-sender': 3 });
  assert.deepEqual(
    arena.handedOver().map(({ reason, underlayAddress, packet: kept }) => [reason, underlayAddress, kept.length]),
    [
      [UnknownSender, ip(STRANGER), 0],
      [UnknownSender, ip('192.168.64.98'), 0],
    ],
  );
});

test('the last hop is told, deliveries and refusals of the device are counted', () => {
  const arena = walked(
    'strict',
    [packetOf('10.5.34.7', '10.5.1.6', { ttl: 1 }), PEER],
    [packetOf('10.5.34.7', '10.5.1.6', {}, 100), PEER],
    [packetOf('10.5.34.7', '10.5.1.6'), PEER],
  );
  arena.setError(1, 0);
  arena.setError(2, EIO);
  arena.decapsulator.settle(arena.count);
  const { packets, bytes, dropped } = arena.counts();
  assert.deepEqual(
    { packets, bytes, dropped },
    { packets: 1, bytes: 120, dropped: { 'ttl-exceeded': 1, 'write-failed': 1 } },
  );
  const [told] = arena.handedOver();
  assert.equal(told.reason, TtlExceeded);
  assert.equal(told.underlayAddress, ip(PEER));
  assert.deepEqual(told.packet, packetOf('10.5.34.7', '10.5.1.6', { ttl: 1 }));
});

test('the last packet of each reason is kept as it came, with its sender', () => {
  const strange = packetOf('10.5.34.7', '10.5.1.6', { ttl: 7 });
  const spoofed = packetOf('10.5.35.7', '10.5.1.6', { ttl: 9 }, 1500);
  const arena = walked('strict', [spoofed, PEER], [strange, '203.0.113.9'], [Buffer.of(0x60), '203.0.113.10']);
  arena.decapsulator.settle(arena.count);
  assert.deepEqual(
    arena
      .lastDrops()
      .map(({ reason, packet, lengthBytes, underlayAddress }) => [...[reason, packet, lengthBytes, underlayAddress]]),
    [
      [DropReason.UnknownSender, Buffer.of(0x60), 1, ip('203.0.113.10')],
      [DropReason.SpoofedSource, spoofed.subarray(0, LAST_DROP_BYTES), 1520, ip(PEER)],
    ],
  );
});
