/** An agent's part in the probes of others: what it answers, what it passes over, and where it stops. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import type { ProbeNode } from '../../../src/debug/probe/probe-node.js';
import { formatCall, type PacketCall } from '../../../src/debug/probe/probe-call.js';
import { ProbeResponder } from '../../../src/debug/probe/responder.js';
import { parsePresence } from '../../../src/debug/probe/sighting.js';
import { silentLogger } from '../../../src/log.js';
import { TapHub } from '../../../src/observe/tap-hub.js';
import type { CallWatcher, ProbeBoard } from '../../../src/subnet/probe-board.js';
import { until } from '../../harness/until.js';
import { ip } from '../../support/addresses.js';

interface Written {
  readonly id: string;
  readonly node: string;
  readonly name: string;
  readonly text: string;
}

const CALL: PacketCall = {
  kind: 'packet',
  node: ip('192.168.64.11'),
  protocol: 1,
  source: ip('10.244.0.1'),
  destination: ip('10.244.1.2'),
  nextHop: ip('192.168.64.12'),
  port: 0,
  firstPort: 7,
  firstIdentification: 9,
  packets: 2,
};

/** How many records the workers were asked for: 0 while nobody watches. */
let demands: number[];
let written: Written[];
let watcher: CallWatcher;
let responder: ProbeResponder;
let life: AbortController;
let done: Promise<void>;

beforeEach(() => {
  demands = [];
  written = [];
  life = new AbortController();
  const reader = {
    demand: (wanted: { everyPassed: number } | undefined) => demands.push(wanted?.everyPassed ?? 0),
    drain: () => false,
    discard: () => undefined,
    lost: 0,
  };
  const source = {
    taps: [{ direction: 'encap' as const, queue: 0, reader }],
    device: 'flannel0',
    tunnelEnd: { address: ip('192.168.64.12'), port: 8285 },
    leaseOf: () => undefined,
  };
  const hub = new TapHub({
    tapSource: () => source as unknown as ReturnType<ConstructorParameters<typeof TapHub>[0]['tapSource']>,
    tapNode: () => ({ node: '192.168.64.12', externalInterface: 'eth0' }),
  });
  const board: ProbeBoard = {
    call: () => assert.fail('it calls nobody'),
    watchCalls: (given, signal) => {
      watcher = given;
      return new Promise((resolve) => signal.addEventListener('abort', () => resolve()));
    },
    report: (call, node, name, text) => {
      written.push({ id: call.id, node, name, text });
      return Promise.resolve();
    },
  };
  const node: ProbeNode = {
    hub,
    board,
    explainer: { status: () => assert.fail('unasked'), explain: () => assert.fail('unasked') },
    leases: () => [],
    place: () => ({
      publicIp: ip('192.168.64.12'),
      network: { address: ip('10.244.0.0'), length: 16 },
      subnet: { address: ip('10.244.1.0'), length: 24 },
      device: 'flannel0',
      deviceMtuBytes: 1472,
      port: 8285,
      formerSubnet: { address: ip('10.244.9.0'), length: 24 },
      trouble: 'its lease is lost',
    }),
  };
  responder = new ProbeResponder(node, silentLogger);
  done = responder.run(life.signal);
});
afterEach(async () => {
  life.abort();
  await done;
  await until('nobody watches any more', () =>
    demands.every((every, index) => index < demands.length - 1 || every === 0),
  );
});

const heard = (number: number, call: Partial<PacketCall> = {}): void =>
  watcher.called({ id: String(number).padStart(16, '0'), text: formatCall({ ...CALL, ...call }), storeLease: '7' });

test('a call that concerns it makes it watch, and say so; the end of the call ends that', async () => {
  heard(1);
  await until('it says that it watches', () => written.length > 0);
  assert.equal(written[0].name, 'here');
  assert.equal(written[0].node, '192.168.64.12');
  assert.deepEqual(parsePresence(written[0].text), { subnet: '10.244.1.0/24', trouble: 'its lease is lost' });
  assert.deepEqual(demands, [1]);
  watcher.ended('0000000000000001');
  await until('it watches no more', () => demands.at(-1) === 0);
  assert.deepEqual(responder.statistics, { followed: 1, meshes: 0, ignored: 0 });
});

test('calls of nobody here, and its own, are none of its business: nothing is watched, nothing written', async () => {
  heard(1, { destination: ip('10.244.2.2'), nextHop: ip('192.168.64.13') });
  heard(2, { node: ip('192.168.64.12') });
  watcher.called({ id: '0000000000000003', text: '{"kind":"packet"}', storeLease: '7' });
  watcher.ignored('/coreos.com/network/probes/calls/nonsense');
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(written, []);
  assert.deepEqual(demands, []);
  assert.deepEqual(responder.statistics, { followed: 0, meshes: 0, ignored: 2 });
});

test('a node that lost a subnet tells of packets for it, for its pods may still have them', async () => {
  heard(1, { destination: ip('10.244.9.2'), nextHop: ip('192.168.64.99') });
  await until('it answers', () => written.length === 1);
  assert.equal(parsePresence(written[0].text)?.subnet, '10.244.9.0/24');
});

test('one that packets are sent to by mistake watches, as does the node of the source', async () => {
  heard(1, { destination: ip('10.244.2.2') });
  heard(2, { source: ip('10.244.1.9'), destination: ip('10.244.2.2'), nextHop: 0 });
  await until('both are answered', () => written.length === 2);
});

test('no more than eight calls are followed at once, nor more than twenty in a row and two a second', async () => {
  const startedAtMs = performance.now();
  for (let number = 1; number <= 10; number++) heard(number);
  await until('eight are answered', () => written.length === 8);
  assert.deepEqual(responder.statistics, { followed: 8, meshes: 0, ignored: 2 });
  for (let number = 1; number <= 8; number++) watcher.ended(String(number).padStart(16, '0'));
  await until('they are over', () => demands.at(-1) === 0);
  for (let number = 100; number < 160; number++) {
    const { followed } = responder.statistics;
    heard(number);
    if (responder.statistics.followed === followed) continue;
    watcher.ended(String(number).padStart(16, '0'));
    await until('it is over', () => demands.at(-1) === 0);
  }
  const seconds = (performance.now() - startedAtMs) / 1000;
  const { followed, ignored } = responder.statistics;
  assert.ok(followed <= 20 + 2 * seconds, `${followed} in ${seconds} s`);
  assert.equal(followed + ignored, 70);
});
