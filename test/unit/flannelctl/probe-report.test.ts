import assert from 'node:assert/strict';
import { test } from 'node:test';
import { paintFor } from '../../../src/flannelctl/paint.js';
import { probeReport } from '../../../src/flannelctl/probe-report.js';
import type { PacketProbeAnswer } from '../../../src/observe/probe-protocol.js';

const PAINT = paintFor({ write: () => true }, {});
const ANSWER: PacketProbeAnswer = {
  reached: false,
  hops: [{ node: '192.0.2.1', point: 'sent', verdict: 'sent', reason: null, time: null, detail: 'by its routes' }],
  likelyCause: 'node2 is down',
  source: '10.5.1.1',
  sourceIs: 'the address of cni0 here',
  destination: '10.5.2.2',
  protocol: 'icmp',
  port: null,
  sizeBytes: 84,
  sent: 1,
  answered: 0,
  answer: null,
  roundTripMs: null,
  notes: [],
};

test('the last line of a probe says how many of several packets were answered', () => {
  const cases: readonly (readonly [change: Partial<PacketProbeAnswer>, line: string])[] = [
    [{}, 'not reached: node2 is down'],
    [{ sent: 5 }, 'not reached, none of 5 answered: node2 is down'],
    [{ sent: 5, answered: 3, roundTripMs: 0.5 }, '3 of 5 answered: node2 is down'],
    [{ sent: 5, answered: 0, likelyCause: null }, 'not reached, none of 5 answered: nothing more is known'],
    [{ reached: true, sent: 5, answered: 5, roundTripMs: 0.5 }, 'reached: 5 of 5 answered after 0.5 ms'],
    [{ reached: true, answered: 1, roundTripMs: 0.5 }, 'reached: answered after 0.5 ms'],
  ];
  for (const [change, line] of cases) {
    assert.equal(probeReport({ ...ANSWER, ...change }, PAINT).at(-1), line);
  }
});
