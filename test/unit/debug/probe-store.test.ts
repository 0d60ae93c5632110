/** What stands on the board of probes: read exactly as it was written, and nothing else is read at all. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { formatCall, parseCall, type ProbeCall } from '../../../src/debug/probe/probe-call.js';
import { formatRow, parseRow } from '../../../src/debug/probe/mesh-row.js';
import {
  formatFinding,
  formatPresence,
  formatSighting,
  parseFinding,
  parsePresence,
  parseSighting,
  type Sighting,
} from '../../../src/debug/probe/sighting.js';
import { ip } from '../../support/addresses.js';

const CALL: ProbeCall = {
  kind: 'packet',
  node: ip('192.168.64.11'),
  protocol: 17,
  source: ip('10.244.0.1'),
  destination: ip('10.244.1.2'),
  nextHop: 0,
  port: 53,
  firstPort: 40_000,
  firstIdentification: 1,
  packets: 101,
};
const SIGHTING: Sighting = {
  packet: 3,
  leg: 'reply',
  direction: 'encap',
  reason: 'send-failed',
  peer: '192.168.64.12:8285',
  lease: '10.244.1.0/24',
  answer: 'port-unreachable',
  answerFrom: '10.244.1.2',
  time: '2026-11-21T15:56:21.834792529Z',
};
const ROW = [
  { node: '192.168.64.12', subnet: '10.244.1.0/24', sent: 10, answered: 9, latencyMs: 0.4, pathMtuBytes: 1500 },
  { node: '192.168.64.13', subnet: '10.244.2.0/24', sent: 10, answered: 0, latencyMs: null, pathMtuBytes: null },
];

test('what is written is read again', () => {
  assert.deepEqual(parseCall(formatCall(CALL)), CALL);
  const mesh: ProbeCall = { kind: 'mesh', node: CALL.node, timeoutMs: 30_000 };
  assert.deepEqual(parseCall(formatCall(mesh)), mesh);
  assert.deepEqual(parseSighting(formatSighting(SIGHTING)), SIGHTING);
  const bare = {
    ...SIGHTING,
    leg: 'request' as const,
    reason: null,
    peer: null,
    lease: null,
    answer: null,
    answerFrom: null,
  };
  assert.deepEqual(parseSighting(formatSighting(bare)), bare);
  const presence = { subnet: '10.244.1.0/24', trouble: 'subnet 10.244.1.0/24 is lost' };
  assert.deepEqual(parsePresence(formatPresence(presence)), presence);
  assert.deepEqual(parseFinding(formatFinding({ reason: null, fact: 'ok' })), { reason: null, fact: 'ok' });
  assert.deepEqual(parseRow(formatRow(ROW)), ROW);
});

describe('hostile values', () => {
  const changed = (value: object, changes: object): string => JSON.stringify({ ...value, ...changes });

  test('are no call', () => {
    const good = JSON.parse(formatCall(CALL)) as object;
    const bad: readonly object[] = [
      { kind: 'reboot' },
      { node: '192.168.64.011' },
      { source: '10.244.0.1; reboot' },
      { destination: null },
      { protocol: 'gre' },
      { protocol: 'constructor' },
      { packets: 0 },
      { packets: 1e9 },
      { packets: 1.5 },
      { firstPort: 65_500 },
      { firstIdentification: 0 },
      { port: -1 },
      { port: '53' },
      { nextHop: [] },
      { padding: 'x'.repeat(2000) },
    ];
    assert.notEqual(parseCall(JSON.stringify(good)), undefined);
    for (const changes of bad) assert.equal(parseCall(changed(good, changes)), undefined, JSON.stringify(changes));
    assert.equal(parseCall('{"kind":"mesh","node":"192.0.2.1","timeoutMs":1e12}'), undefined);
    assert.equal(parseCall('{"kind":"mesh","timeoutMs":10}'), undefined);
  });

  test('are no sighting, no presence, no finding and no row', () => {
    const bad: readonly object[] = [
      { packet: -1 },
      { packet: 1e6 },
      { leg: 'return' },
      { direction: 'up' },
      { reason: '\u001b[2J' },
      { reason: 'x'.repeat(100) },
      { peer: '192.168.64.12' },
      { peer: '999.168.64.12:8285' },
      { peer: '192.168.64.12:99999' },
      { lease: 'a lease' },
      { answer: 'hello' },
      { answerFrom: '::1' },
      { time: 'yesterday' },
      { time: `2026-11-21T15:56:21Z${'\n'}x` },
    ];
    for (const changes of bad)
      assert.equal(parseSighting(changed(SIGHTING, changes)), undefined, JSON.stringify(changes));
    assert.equal(parsePresence('{"subnet":"10.244.1.0/24"}'), undefined);
    assert.equal(parsePresence('{"subnet":"10.244.1.0/77","trouble":null}'), undefined);
    assert.equal(parseFinding(JSON.stringify({ reason: null, fact: 'x'.repeat(400) })), undefined);
    for (const changes of [
      { answered: 11 },
      { sent: 0 },
      { node: 'x' },
      { latencyMs: -1 },
      { latencyMs: '1' },
      { subnet: '\u001b' },
    ]) {
      assert.equal(
        parseRow(JSON.stringify({ peers: [{ ...ROW[0], ...changes }] })),
        undefined,
        JSON.stringify(changes),
      );
    }
    assert.equal(parseRow(JSON.stringify({ peers: Array.from({ length: 500 }, () => ROW[0]) })), undefined);
  });

  test('cannot steer a terminal with the words that are shown', () => {
    const read = parsePresence(JSON.stringify({ subnet: '10.244.1.0/24', trouble: 'a\u001b[31m\r\nb\u0085c' }));
    assert.equal(read?.trouble, 'a [31m b c');
  });

  test('of any kind never throw', () => {
    const parsers = [parseCall, parseSighting, parsePresence, parseFinding, parseRow];
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json(), fc.json({ maxDepth: 1 })), (text) => {
        for (const parse of parsers) parse(text);
      }),
      { numRuns: 2000 },
    );
    const fields = fc.record(
      Object.fromEntries(Object.keys({ ...SIGHTING, ...CALL }).map((name) => [name, fc.anything()])),
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fields, (value) => {
        const text = JSON.stringify(value, (_key, one: unknown) => (typeof one === 'bigint' ? String(one) : one));
        for (const parse of parsers) parse(text);
      }),
    );
  });
});
