import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DropReason } from '../../../src/dataplane/drop-reasons.js';
import { sampleFor } from '../../../src/debug/top/sample-for.js';
import { SpaceSaving } from '../../../src/debug/top/space-saving.js';
import { TOP_PLACES, TrafficSketch } from '../../../src/debug/top/traffic-sketch.js';
import { topReport } from '../../../src/flannelctl/top-report.js';
import { paintFor } from '../../../src/flannelctl/paint.js';
import type { TapEvent } from '../../../src/observe/tap-protocol.js';
import { formatIpv4, parsePrefix } from '../../../src/packet/address.js';
import type { StatusAnswer } from '../../../src/observe/control-protocol.js';
import { daemonAnswering, flannelctl } from '../../support/flannelctl.js';
import { udpPacket } from '../../harness/inner-packet.js';
import { ip } from '../../support/addresses.js';

const additions = fc.array(fc.tuple(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 0, max: 1000 })), {
  maxLength: 800,
  size: 'max',
});

test('property: the sketch keeps its bounds, whatever comes', () => {
  fc.assert(
    fc.property(additions, fc.integer({ min: 1, max: 40 }), (all, capacity) => {
      const sketch = new SpaceSaving<string>(capacity);
      const truth = new Map<string, number>();
      for (const [number, weight] of all) {
        const key = String(number);
        assert.equal(
          sketch.add(key, weight, () => key),
          key,
        );
        truth.set(key, (truth.get(key) ?? 0) + weight);
        assert.ok(sketch.size <= capacity);
      }
      const total = all.reduce((sum, [, weight]) => sum + weight, 0);
      assert.equal(sketch.total, total);
      const entries = sketch.heaviest();
      const bound = total / capacity;
      for (const { key, item, counted, missedAtMost } of entries) {
        const weight = truth.get(key) ?? 0;
        assert.equal(item, key);
        assert.ok(counted <= weight && weight <= counted + missedAtMost && missedAtMost <= bound);
      }
      const rank = new Map(entries.map(({ key }, index) => [key, index]));
      for (const [key, weight] of truth) {
        if (weight <= bound) continue;
        const own = rank.get(key);
        assert.ok(own !== undefined, 'what is heavy has a place');
        for (const [other, itsWeight] of truth) {
          const its = rank.get(other);
          if (its !== undefined && weight - itsWeight > bound) assert.ok(own < its, 'and the right one');
        }
      }
    }),
    { numRuns: 300 },
  );
});

test('with places for all, everything is exact', () => {
  const sketch = new SpaceSaving<null>(3);
  for (const [key, weight] of [
    ['a', 1],
    ['b', 5],
    ['a', 3],
    ['c', 2],
  ] as const)
    sketch.add(key, weight, () => null);
  assert.deepEqual(
    sketch.heaviest(2).map(({ key, counted, missedAtMost }) => [key, counted, missedAtMost]),
    [
      ['b', 5, 0],
      ['a', 4, 0],
    ],
  );
  assert.throws(() => new SpaceSaving(0), RangeError);
});

function event(source: string, destination: string, changes: Partial<TapEvent> = {}): TapEvent {
  const packet = udpPacket({ source, destination });
  return {
    ...{ timeNs: 0n, direction: 'encap', queue: 0, reason: 0, error: 0 },
    ...{ underlayAddress: ip('192.168.64.2'), underlayPort: 8285, lease: parsePrefix('10.5.2.0/24') },
    ...{ lengthBytes: packet.length, segments: 1, segment: -1, batchPackets: 1, merged: 1, every: 1, packet },
    ...changes,
  };
}

const OWN = parsePrefix('10.5.1.0/24');

test('packets count for their flow and their pair of subnets, scaled up from the sample', () => {
  const sketch = new TrafficSketch('bytes', OWN);
  const back = { direction: 'decap', lease: parsePrefix('10.5.2.0/24') } as const;
  for (let packet = 0; packet < 3; packet++) sketch.add(event('10.5.1.6', '10.5.2.7', { every: 10 }));
  sketch.add(event('10.5.1.6', '10.5.2.7', { every: 10, segments: 4, lengthBytes: 5000 }));
  sketch.add(event('10.5.2.7', '10.5.1.6', { ...back, lengthBytes: 2000 }));
  sketch.add(event('10.5.1.9', '10.5.9.9', { lease: undefined, reason: DropReason.NoLease }));
  sketch.add(event('192.168.64.1', '10.5.2.8'));
  sketch.add(event('10.5.1.6', '10.5.2.7', { packet: Buffer.of(0x60), lengthBytes: 1_000_000 }));
  const bytes = 30 * 33 + 50_000;
  const total = bytes + 2000 + 33 + 33;
  assert.deepEqual(sketch.total, { bytes: total, packets: 30 + 40 + 3, dropped: 1 });
  assert.equal(sketch.records, 7);
  assert.deepEqual(sketch.busiestPairs(10), [
    {
      ...{ direction: 'encap', source: '10.5.1.0/24', destination: '10.5.2.0/24', bytes, packets: 70, dropped: 0 },
      ...{ share: bytes / total, missedAtMost: 0 },
    },
    {
      ...{ direction: 'decap', source: '10.5.2.0/24', destination: '10.5.1.0/24', bytes: 2000, packets: 1, dropped: 0 },
      ...{ share: 2000 / total, missedAtMost: 0 },
    },
    {
      ...{ direction: 'encap', source: '10.5.1.0/24', destination: '10.5.9.9/32', bytes: 33, packets: 1, dropped: 1 },
      ...{ share: 33 / total, missedAtMost: 0 },
    },
    {
      ...{ direction: 'encap', source: '192.168.64.1/32', destination: '10.5.2.0/24', bytes: 33, packets: 1 },
      ...{ dropped: 0, share: 33 / total, missedAtMost: 0 },
    },
  ]);
  const [flow] = sketch.busiestFlows(1);
  assert.deepEqual(flow, {
    ...{ direction: 'encap', protocol: 'udp', source: '10.5.1.6', sourcePort: 1111, destination: '10.5.2.7' },
    ...{ destinationPort: 7777, bytes, packets: 70, dropped: 0, share: bytes / total, missedAtMost: 0 },
  });
});

test('a flood of flows takes no more than its places, and does not hide what is busy', () => {
  const sketch = new TrafficSketch('packets', OWN);
  const floods = 20 * TOP_PLACES;
  for (let flood = 0; flood < floods; flood++) {
    sketch.add(event(formatIpv4(0x0b000000 + flood), '10.5.1.6', { direction: 'decap', lease: undefined }));
    if (flood % 10 === 0) sketch.add(event('10.5.1.6', '10.5.2.7'));
  }
  assert.ok(sketch.busiestFlows(Infinity).length <= TOP_PLACES);
  assert.ok(sketch.busiestPairs(Infinity).length <= TOP_PLACES);
  const [busiest] = sketch.busiestFlows(1);
  assert.deepEqual([busiest.source, busiest.destination], ['10.5.1.6', '10.5.2.7']);
  assert.ok(busiest.packets >= floods / 10 - sketch.total.packets / TOP_PLACES, `${busiest.packets}`);
});

test('by packets, small ones count as much as large ones', () => {
  const sketch = new TrafficSketch('packets', OWN);
  sketch.add(event('10.5.1.6', '10.5.2.7', { lengthBytes: 60_000 }));
  sketch.add(event('10.5.1.8', '10.5.2.7'));
  sketch.add(event('10.5.1.8', '10.5.2.7'));
  assert.deepEqual(
    sketch.busiestFlows(10).map(({ source, share }) => [source, share]),
    [
      ['10.5.1.8', 2 / 3],
      ['10.5.1.6', 1 / 3],
    ],
  );
});

test('the more packets there are, the fewer are looked at', () => {
  assert.deepEqual(
    [sampleFor(0, 1), sampleFor(4000, 1), sampleFor(100_000, 0.2), sampleFor(-5, 1)],
    [1, 1, 100, 1],
    'some thousands a second',
  );
});

test('the tables have rates, shares and what is dropped', () => {
  const sketch = new TrafficSketch('bytes', OWN);
  sketch.add(event('10.5.1.6', '10.5.2.7', { every: 1000, lengthBytes: 1250 }));
  sketch.add(event('10.5.1.9', '10.5.9.9', { lease: undefined, reason: DropReason.NoLease }));
  const answer = {
    ...{ time: '', node: '192.168.64.1', seconds: 2, sampledEvery: 1000, records: 2 },
    by: 'bytes',
    ...{ lost: { ring: 0, reader: 0 }, total: sketch.total },
    ...{ pairs: sketch.busiestPairs(1), flows: sketch.busiestFlows(2) },
  } as const;
  const paint = paintFor({ write: () => true }, {});
  assert.deepEqual(topReport(answer, paint), [
    '192.168.64.1: 5.0 Mbit/s, 501 packets/s; looked at one packet in 1,000 for 2.0 s',
    '',
    'PAIRS OF SUBNETS  FROM         TO           MBIT/S  PACKETS/S  SHARE  DROPPED',
    'encap             10.5.1.0/24  10.5.2.0/24     5.0        500  100 %',
    '',
    'FLOWS  PROTOCOL  FROM           TO             MBIT/S  PACKETS/S  SHARE  DROPPED',
    'encap  udp       10.5.1.6:1111  10.5.2.7:7777     5.0        500  100 %',
    'encap  udp       10.5.1.9:1111  10.5.9.9:7777   0.000        0.5  0.0 %    100 %',
  ]);
  assert.deepEqual(topReport({ ...answer, sampledEvery: 1, pairs: [], flows: [] }, paint).slice(1), [
    '',
    'no packets passed',
  ]);
});

test('what cannot be done is refused in one line', async (t) => {
  const waiting = await daemonAnswering(t, { '/v1/status': { value: { state: 'lease' } as StatusAnswer } });
  const refused: readonly (readonly [readonly string[], number, RegExp])[] = [
    [['--once', '--duration', '5s'], 2, /--once and --duration exclude each other/],
    [['--by', 'speed'], 2, /bytes, packets/],
    [['--sample', '10'], 2, /1\/1000/],
    [['--count', '0'], 2, /whole number from 1/],
    [['--socket', waiting], 1, /no packets flow yet, the agent is at "lease"/],
  ];
  for (const [args, status, message] of refused) {
    const result = await flannelctl(['top', ...args]);
    assert.equal(result.status, status, args.join(' '));
    assert.match(result.stderr, message);
    assert.equal(result.stdout, '');
  }
});
