/** The order of hops, and what most likely became of a packet, from what is known: facts written by hand. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { PeerFacts } from '../../../src/debug/doctor/probe-peers.js';
import type { Evidence, NodeSighting, Watching } from '../../../src/debug/probe/evidence.js';
import { hopsOf } from '../../../src/debug/probe/hops.js';
import { likelyCause } from '../../../src/debug/probe/likely-cause.js';
import { allReached } from '../../../src/debug/probe/mesh.js';
import { HOP_POINTS, type MeshNode } from '../../../src/observe/probe-protocol.js';
import { ip } from '../../support/addresses.js';

const HERE = '192.168.64.11';
const THERE = '192.168.64.12';
const ELSEWHERE = '192.168.64.13';
const TIME = '2026-11-21T15:56:21.000000000Z';

const well: Watching = { subnet: '10.244.1.0/24', trouble: null, inTime: true };

function seen(
  node: string,
  leg: NodeSighting['leg'],
  direction: NodeSighting['direction'],
  changes = {},
): NodeSighting {
  const peer = `${node === HERE ? THERE : HERE}:8285`;
  const answer = leg === 'reply' ? ('echo-reply' as const) : null;
  const answerFrom = leg === 'reply' ? '10.244.1.2' : null;
  return {
    node,
    packet: 0,
    leg,
    direction,
    reason: null,
    peer,
    lease: null,
    answer,
    answerFrom,
    time: TIME,
    ...changes,
  };
}

const LEFT = seen(HERE, 'request', 'encap');
const ARRIVED = seen(THERE, 'request', 'decap');
const ANSWERED = seen(THERE, 'reply', 'encap');
const BACK = seen(HERE, 'reply', 'decap');

function evidence(changes: Partial<Evidence> = {}): Evidence {
  return {
    here: HERE,
    call: {
      kind: 'packet',
      node: ip(HERE),
      protocol: 1,
      source: ip('10.244.0.1'),
      destination: ip('10.244.1.2'),
      nextHop: ip(THERE),
      port: 0,
      firstPort: 7,
      firstIdentification: 9,
      packets: 2,
    },
    sizeBytes: 84,
    dontFragment: false,
    device: 'flannel0',
    deviceMtuBytes: 1472,
    port: 8285,
    owner: { node: THERE, lease: '10.244.1.0/24' },
    sent: new Map([[0, { taken: true, time: TIME }]]),
    sightings: [LEFT, ARRIVED, ANSWERED, BACK],
    watching: new Map([[THERE, well]]),
    findings: new Map(),
    lost: new Map(),
    storeTrouble: null,
    masqueraded: false,
    ...changes,
  };
}

const silence = { kind: 'silence' } as const;
const reply = { kind: 'reply', roundTripMs: 0.4 } as const;
const peer = (changes: Partial<PeerFacts> = {}): PeerFacts => ({
  address: THERE,
  subnet: '10.244.1.0/24',
  underlay: reply,
  large: reply,
  largeBytes: 1500,
  tunnel: silence,
  port: 'silence',
  ...changes,
});

const points = (of: Evidence): string[] => hopsOf(of, 0).map(({ node, point }) => `${node} ${point}`);

test('hops are in the order of the path, whatever the clocks say and however the sightings came', () => {
  const path = [
    `${HERE} sent`,
    `${HERE} encapsulated`,
    `${THERE} received`,
    `${THERE} delivered`,
    `${THERE} reply-encapsulated`,
    `${HERE} reply-received`,
    `${HERE} reply-delivered`,
  ];
  const sightings = [LEFT, ARRIVED, ANSWERED, BACK];
  const times = fc.array(fc.date({ min: new Date(0), max: new Date(4e12), noInvalidDate: true }), {
    minLength: 4,
    maxLength: 4,
  });
  fc.assert(
    fc.property(fc.shuffledSubarray([0, 1, 2, 3], { minLength: 4 }), times, (order, dates) => {
      const shuffled = order.map((index) => ({ ...sightings[index], time: dates[index].toISOString() }));
      assert.deepEqual(points(evidence({ sightings: shuffled })), path);
      assert.equal(likelyCause(evidence({ sightings: shuffled }), 0), null);
    }),
  );
});

test('any sightings make hops in the order of the points, and a cause unless the packet was answered', () => {
  const sighting = fc.record({
    node: fc.constantFrom(HERE, THERE, ELSEWHERE),
    packet: fc.constantFrom(0, 1),
    leg: fc.constantFrom('request' as const, 'reply' as const),
    direction: fc.constantFrom('encap' as const, 'decap' as const),
    reason: fc.constantFrom(null, 'no-lease', 'write-failed', 'a-later-one'),
    peer: fc.constantFrom(null, `${THERE}:8285`),
    lease: fc.constant(null),
    answer: fc.constantFrom('echo-reply' as const, 'rejected' as const, 'ttl-exceeded' as const, null),
    answerFrom: fc.constantFrom(null, '10.244.1.2'),
    time: fc.constant(TIME),
  });
  fc.assert(
    fc.property(fc.array(sighting, { maxLength: 8 }), fc.boolean(), (sightings, watched) => {
      const one = evidence({ sightings, watching: new Map(watched ? [[THERE, well]] : []) });
      const hops = hopsOf(one, 0);
      const legs = hops.map(({ point }) => HOP_POINTS.indexOf(point));
      // "received" and "delivered" of several nodes alternate; all else only ever grows.
      const coarse = legs.map((rank) => (rank === HOP_POINTS.indexOf('delivered') ? rank - 1 : rank));
      const withoutSilence = coarse.filter((rank) => rank !== HOP_POINTS.indexOf('unreported'));
      assert.deepEqual(
        withoutSilence,
        [...withoutSilence].sort((a, b) => a - b),
      );
      const cause = likelyCause(one, 0);
      const answered = sightings.some(
        (s) =>
          s.packet === 0 &&
          s.leg === 'reply' &&
          s.direction === 'decap' &&
          s.node === HERE &&
          s.reason === null &&
          s.answer === 'echo-reply',
      );
      assert.equal(cause === null, answered);
      assert.doesNotMatch(cause ?? '', /undefined|NaN|\n/);
    }),
  );
});

describe('the likely cause', () => {
  const cases: readonly (readonly [what: string, facts: Partial<Evidence>, says: RegExp])[] = [
    [
      'a firewall between',
      { sightings: [LEFT], peer: peer() },
      /^between 192\.168\.64\.11 and 192\.168\.64\.12: a firewall eats UDP 8285/,
    ],
    [
      'an underlay that carries nothing, to an agent that is alive',
      { sightings: [LEFT], peer: peer({ underlay: silence }) },
      /between .*: the underlay carries nothing to 192\.168\.64\.12.* its agent is alive/,
    ],
    [
      'a node that is gone',
      { sightings: [LEFT], watching: new Map(), peer: peer({ underlay: silence }) },
      /^192\.168\.64\.12 does not answer on the underlay at all.*down or cut off/,
    ],
    [
      'a daemon that is gone',
      { sightings: [LEFT], watching: new Map(), peer: peer({ port: 'refused' }) },
      /^no flanneld listens at 192\.168\.64\.12/,
    ],
    [
      'a port that ICMP calls unreachable',
      { sightings: [LEFT], peer: peer({ port: 'unreachable' }) },
      /^between .*: ICMP says that UDP 8285/,
    ],
    [
      'a node that cannot report, whose tunnel works',
      { sightings: [LEFT], watching: new Map(), peer: peer({ tunnel: reply }) },
      /^behind 192\.168\.64\.12: the tunnel to it works/,
    ],
    [
      'a node that cannot report, and whose tunnel does not',
      { sightings: [LEFT], watching: new Map(), peer: peer() },
      /^between .* a firewall eats UDP 8285, or the daemon there is down.* does not report$/,
    ],
    [
      'etcd that is away',
      { sightings: [LEFT], watching: new Map(), storeTrouble: 'etcd at …', peer: peer() },
      /etcd is away, so that it cannot report$/,
    ],
    [
      'an agent that watched too late proves nothing',
      { sightings: [LEFT], watching: new Map([[THERE, { ...well, inTime: false }]]), peer: peer() },
      /or the daemon there is down/,
    ],
    [
      'nor does one that lost records',
      { sightings: [LEFT], lost: new Map([[THERE, 9]]), peer: peer() },
      /or the daemon there is down/,
    ],
    [
      'a narrow path, by a small packet that is answered',
      {
        sizeBytes: 1472,
        sightings: [LEFT],
        smallAnswered: true,
        peer: peer({ large: silence, pathMtuBytes: 1400, tunnel: reply }),
      },
      /^between .*too narrow.* 1500 bytes .*; 1400 bytes fit/,
    ],
    [
      'a narrow path on the way back',
      { sizeBytes: 1472, sightings: [LEFT, ARRIVED, ANSWERED], smallAnswered: true },
      /^between 192\.168\.64\.12 and 192\.168\.64\.11, on the way back: the path is too narrow/,
    ],
    [
      'a stolen lease',
      {
        owner: { node: '192.168.64.99', lease: '10.244.1.0/24' },
        sightings: [seen(HERE, 'request', 'encap', { peer: '192.168.64.99:8285' })],
        watching: new Map([[THERE, { ...well, trouble: 'subnet 10.244.1.0/24 is lost' }]]),
        peer: peer({ underlay: silence }),
      },
      /^the lease of 10\.244\.1\.0\/24 sends packets to 192\.168\.64\.99, but 192\.168\.64\.12 is the node .*is lost/,
    ],
    [
      'an answer that is lost',
      { sightings: [LEFT, ARRIVED, ANSWERED] },
      /on the way back: the answer \(echo reply\) was lost; the other direction works/,
    ],
    [
      'an answer that is sent elsewhere',
      { sightings: [LEFT, ARRIVED, { ...ANSWERED, peer: `${ELSEWHERE}:8285` }] },
      /sends the answer to 192\.168\.64\.13:8285 and not to 192\.168\.64\.11/,
    ],
    [
      'the kernel behind the agent',
      {
        sightings: [LEFT, ARRIVED],
        findings: new Map([[THERE, { reason: 'rp-filter', fact: 'flannel0 has rp_filter on' }]]),
      },
      /^the kernel of 192\.168\.64\.12 drops it behind the agent: flannel0 has rp_filter on \(rp-filter\)$/,
    ],
    [
      'a pod that is not there',
      { sightings: [LEFT, ARRIVED], findings: new Map([[THERE, { reason: 'no-neighbour', fact: 'ARP' }]]) },
      /there is no 10\.244\.1\.2: ARP/,
    ],
    [
      'a pod that does not answer',
      { sightings: [LEFT, ARRIVED], findings: new Map([[THERE, { reason: null, fact: '' }]]) },
      /delivered it, and 10\.244\.1\.2 does not answer/,
    ],
    [
      'the other agent',
      { sightings: [LEFT, { ...ARRIVED, reason: 'spoofed-source' }] },
      /got the packet from .* and drops it: spoofed-source: /,
    ],
    ['this agent', { sightings: [{ ...LEFT, reason: 'ttl-exceeded' }] }, /^192\.168\.64\.11 drops it: ttl-exceeded: /],
    [
      'nobody’s subnet',
      { owner: null, watching: new Map(), sightings: [{ ...LEFT, reason: 'no-lease', peer: null }] },
      /^no node leases the subnet of 10\.244\.1\.2: /,
    ],
    [
      'a subnet whose lease is gone, though not its node',
      { owner: null, sightings: [{ ...LEFT, reason: 'no-lease', peer: null }] },
      /; 192\.168\.64\.12 has pods there, but the lease is gone/,
    ],
    [
      'a source that is masqueraded',
      { sightings: [], masqueraded: true },
      /is outside of the Network, and masquerading \(--ip-masq\) puts another in its place/,
    ],
    [
      'a route elsewhere',
      { sightings: [], findings: new Map([[HERE, { reason: 'no-route', fact: 'none' }]]) },
      /did not come into flannel0 .*: none \(no-route\)/,
    ],
    ['a rule of this host', { sightings: [] }, /OUTPUT, POSTROUTING/],
    [
      'a packet that does not fit',
      { sizeBytes: 1500, dontFragment: true, sightings: [] },
      /1500 bytes do not fit into flannel0/,
    ],
    [
      'a firewall that says so',
      { sightings: [LEFT, ARRIVED, { ...BACK, answer: 'rejected', answerFrom: '10.244.1.0' }] },
      /^a firewall rejects it, says 10\.244\.1\.0/,
    ],
    [
      'a host that says so',
      { sightings: [LEFT, { ...BACK, answer: 'host-unreachable', answerFrom: '10.244.1.0' }] },
      /^there is no 10\.244\.1\.2, says/,
    ],
    [
      'an answer that this agent drops',
      { sightings: [LEFT, ARRIVED, ANSWERED, { ...BACK, reason: 'unknown-sender' }] },
      /^the answer came back, and 192\.168\.64\.11 drops it: unknown-sender/,
    ],
  ];
  for (const [what, facts, says] of cases) {
    test(what, () => assert.match(likelyCause(evidence(facts), 0) ?? '', says));
  }

  test('is none when the answer came, though the other node cannot report; the gap is shown', () => {
    const one = evidence({ sightings: [LEFT, BACK], watching: new Map() });
    assert.equal(likelyCause(one, 0), null);
    assert.deepEqual(points(one), [
      `${HERE} sent`,
      `${HERE} encapsulated`,
      `${THERE} unreported`,
      `${HERE} reply-received`,
      `${HERE} reply-delivered`,
    ]);
  });
});

test('a mesh is whole when each two nodes reach each other by the word of one, and of none to the contrary', () => {
  const subnets = ['10.244.0.0/24', '10.244.1.0/24', '10.244.2.0/24'];
  const node = (index: number, answers: readonly (number | undefined)[]): MeshNode => ({
    node: `192.168.64.${11 + index}`,
    subnet: subnets[index],
    reports: answers.some((one) => one !== undefined),
    peers: answers.flatMap((answered, to) =>
      answered === undefined
        ? []
        : [
            {
              node: `192.168.64.${11 + to}`,
              subnet: subnets[to],
              sent: 10,
              answered,
              latencyMs: 1,
              pathMtuBytes: 1500,
            },
          ],
    ),
  });
  const silent = [undefined, undefined, undefined];
  assert.equal(
    allReached([node(0, [undefined, 10, 10]), node(1, [10, undefined, 1]), node(2, [9, 10, undefined])]),
    true,
  );
  assert.equal(
    allReached([node(0, [undefined, 10, 10]), node(1, [10, undefined, 10]), node(2, silent)]),
    true,
    'one silent node',
  );
  assert.equal(
    allReached([node(0, [undefined, 10, 10]), node(1, silent), node(2, silent)]),
    false,
    'two, of whom nobody knows',
  );
  assert.equal(
    allReached([node(0, [undefined, 10, 10]), node(1, [0, undefined, 10]), node(2, silent)]),
    false,
    'one to the contrary',
  );
});
