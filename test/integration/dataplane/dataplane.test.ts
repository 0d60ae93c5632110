import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Namespace } from '../../../src/lab/namespace.js';
import { A_OVERLAY, A_UNDERLAY, B_OVERLAY, B_UNDERLAY, BareNode, configOf, withOverlay } from './overlay.js';
import { namePrefix } from '../../harness/leftovers.js';
import { withNamespaces } from '../../harness/namespaces.js';

const skip = process.getuid?.() === 0 ? false : 'needs root for namespaces and TUN devices';

/** Whether all of `count` pings to the peer are answered. */
async function pings(from: Namespace, to: string, ...options: string[]): Promise<boolean> {
  const arguments_ = ['-n', '-q', '-l', '5', '-i', '2', '-W', '2', '-c', '5', ...options, to];
  return (await from.exec('ping', arguments_, { allowFailure: true })).status === 0;
}

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

for (const workers of [1, 2]) {
  test(`packets of every size pass both ways, with ${workers} worker(s) each way`, { skip }, () =>
    withOverlay(`dp${workers}`, { workers }, async ({ a, b, nodeA, nodeB }) => {
      assert.ok(await pings(a, B_OVERLAY));
      assert.ok(await pings(b, A_OVERLAY));
      const before = await nodeA.status();
      assert.ok(await pings(a, B_OVERLAY, '-M', 'do', '-s', '1444'), 'MTU 1472 with DF');
      assert.ok(!(await pings(a, B_OVERLAY, '-M', 'do', '-s', '1445', '-W', '1')), 'MTU 1473 with DF');
      assert.ok(await pings(a, B_OVERLAY, '-M', 'dont', '-s', '30000'), 'fragments');
      const after = await nodeA.status();
      const fragments = 5 * Math.ceil(30008 / 1448);
      assert.equal(after.encap.packets - before.encap.packets, 5 + fragments);
      assert.equal(sum(after.decap.dropped), 0);
      assert.equal(after.workers.length, 2 * workers);
      assert.ok(after.workers.every(({ state }) => state === 'running'));
      const peer = await nodeB.until(({ decap }) => decap.packets === after.encap.packets);
      assert.equal(peer.decap.bytes, after.encap.bytes);
    }),
  );
}

test('a flow stays on its queue, whichever queue its answers are written to', { skip }, () =>
  withNamespaces(namePrefix('dpsteer'), ['node'], async ({ node }) => {
    const program = fileURLToPath(new URL('./steering-program.js', import.meta.url));
    const { stdout } = await node.exec(process.execPath, [program]);
    const queues = JSON.parse(stdout) as [number, number][];
    assert.deepEqual(
      queues.filter(([first, second]) => first !== second),
      [],
    );
    assert.deepEqual(new Set(queues.flat()), new Set([0, 1]), 'and both queues are used');
  }),
);

test('TCP streams cross in both directions, undamaged', { skip }, () =>
  withOverlay('dptcp', { workers: 2 }, async ({ a, b }) => {
    const server = b.spawn('iperf3', ['--server', '--one-off', '--forceflush']);
    await once(server.stdout ?? server, 'data');
    const { stdout } = await a.exec('iperf3', [
      ...['--client', B_OVERLAY, '--time', '1', '--parallel', '3', '--bidir', '--json'],
    ]);
    const { end } = JSON.parse(stdout) as { end: Record<string, { bytes: number }> };
    assert.ok(end.sum_received.bytes > 0 && end.sum_received_bidir_reverse.bytes > 0);
  }),
);

test('what may not pass is dropped for its reason, and who is to be told is handed over', { skip }, () =>
  withOverlay('dpdrop', {}, async ({ a, b, nodeA, nodeB }) => {
    await pings(a, '10.5.77.1', '-c', '2', '-W', '1');
    await pings(a, B_OVERLAY, '-t', '1', '-c', '1', '-W', '1');
    const told = await nodeA.until(({ slowPath }) => slowPath.length >= 3);
    assert.deepEqual(told.slowPath, [
      { reason: 'no-lease', bytes: 84, sender: '0.0.0.0', innerMtuBytes: 0, ttl: 64 },
      { reason: 'no-lease', bytes: 84, sender: '0.0.0.0', innerMtuBytes: 0, ttl: 64 },
      { reason: 'ttl-exceeded', bytes: 84, sender: '0.0.0.0', innerMtuBytes: 0, ttl: 1 },
    ]);
    assert.equal(told.encap.dropped['no-lease'], 2);
    assert.equal(told.encap.dropped['ttl-exceeded'], 1);

    // A TTL that lasts just to the other end runs out there.
    await pings(a, B_OVERLAY, '-t', '2', '-c', '1', '-W', '1');
    const other = await nodeB.until(({ slowPath }) => slowPath.length >= 1);
    assert.deepEqual(other.slowPath, [
      { reason: 'ttl-exceeded', bytes: 84, sender: A_UNDERLAY, innerMtuBytes: 0, ttl: 1 },
    ]);

    // A second address of the other machine is a stranger.
    await b.addAddress('eth0', '192.168.9.66/24');
    for (let times = 0; times < 3; times++) {
      await b.exec('bash', ['-c', `exec 3<>/dev/udp/${A_UNDERLAY}/8285; echo hello >&3`]);
    }
    const before = await nodeA.status();
    assert.equal(before.decap.dropped['unknown-sender'] ?? 0, 0, 'the member itself is no stranger');
    await b.ip('route replace 192.168.9.1 dev eth0 src 192.168.9.66');
    for (let times = 0; times < 3; times++) {
      await b.exec('bash', ['-c', `exec 3<>/dev/udp/${A_UNDERLAY}/8285; echo hello >&3`]);
    }
    const stranger = await nodeA.until(({ decap }) => decap.dropped['unknown-sender'] === 3);
    assert.deepEqual(stranger.slowPath, [
      { reason: 'unknown-sender', bytes: 0, sender: '192.168.9.66', innerMtuBytes: 0, ttl: 0 },
    ]);
  }),
);

test('a path narrower than the interface: the packet is handed over as it came, with the MTU that fits', { skip }, () =>
  withOverlay('dpmtu', {}, async ({ a, nodeA }) => {
    await a.ip(`route replace ${B_UNDERLAY} dev eth0 mtu lock 1400`);
    await pings(a, B_OVERLAY, '-M', 'dont', '-s', '1444', '-c', '1', '-W', '1');
    await pings(a, B_OVERLAY, '-M', 'do', '-s', '1444', '-c', '1', '-W', '1');
    const { slowPath, encap } = await nodeA.until((status) => status.slowPath.length >= 2);
    assert.deepEqual(slowPath, [
      { reason: 'packet-too-big', bytes: 1472, sender: '0.0.0.0', innerMtuBytes: 1372, ttl: 64 },
      { reason: 'packet-too-big', bytes: 576, sender: '0.0.0.0', innerMtuBytes: 1372, ttl: 64 },
    ]);
    assert.equal(encap.dropped['packet-too-big'], 2);
    assert.ok(await pings(a, B_OVERLAY, '-M', 'do', '-s', '1344'), 'what fits passes');
  }),
);

test('packets flow again after the device, the external interface or its address was away', { skip }, () =>
  withOverlay('dpdown', {}, async ({ a, b, nodeA, nodeB }) => {
    await b.ip('link set flannel0 down');
    assert.ok(!(await pings(a, B_OVERLAY, '-c', '2', '-W', '1')));
    await nodeB.until(({ decap }) => (decap.dropped['write-failed'] ?? 0) >= 1);
    await b.ip('link set flannel0 up');
    await b.addRoute('10.5.0.0/16', 'dev flannel0');
    assert.ok(await pings(a, B_OVERLAY), 'after the device was down');

    await a.ip('link set eth0 down');
    assert.ok(!(await pings(a, B_OVERLAY, '-c', '2', '-W', '1')));
    await a.ip('link set eth0 up');
    assert.ok(await pings(a, B_OVERLAY), 'after the interface was down');

    await a.ip(`address del ${A_UNDERLAY}/24 dev eth0`);
    assert.ok(!(await pings(a, B_OVERLAY, '-c', '2', '-W', '1')));
    await a.addAddress('eth0', `${A_UNDERLAY}/24`);
    assert.ok(await pings(a, B_OVERLAY), 'after the address was gone');

    await a.exec('iptables', ['-A', 'OUTPUT', '-p', 'udp', '--dport', '8285', '-j', 'DROP']);
    assert.ok(!(await pings(a, B_OVERLAY, '-c', '2', '-W', '1')));
    await a.exec('iptables', ['-F', 'OUTPUT']);
    assert.ok(await pings(a, B_OVERLAY), 'after a firewall forbade it');
    assert.ok((await nodeA.status()).encap.dropped['send-failed'] >= 6);
  }),
);

test('packets flow again after the peer was away, whose host answered port-unreachable', { skip }, () =>
  withOverlay('dpref', {}, async ({ a, b, nodeB }) => {
    assert.equal(await nodeB.end('stop'), 0);
    assert.ok(!(await pings(a, B_OVERLAY, '-c', '3', '-W', '1')));
    await BareNode.start(b, configOf('b'));
    assert.ok(await pings(a, B_OVERLAY));
  }),
);

test('parked workers hold packets back and deliver them when they are let go', { skip }, () =>
  withOverlay('dppark', {}, async ({ a, nodeA, nodeB }) => {
    assert.ok(await pings(a, B_OVERLAY));
    const before = await nodeB.status();
    assert.deepEqual(await nodeB.ask('park'), { parked: true });
    assert.deepEqual(
      (await nodeB.status()).workers.map(({ state }) => state),
      ['parked', 'parked'],
    );
    assert.ok(!(await pings(a, B_OVERLAY, '-c', '4', '-W', '1')));
    assert.equal((await nodeB.status()).decap.packets, before.decap.packets);
    assert.deepEqual(await nodeB.ask('resume'), { resumed: true });
    await nodeB.until(({ decap }) => decap.packets === before.decap.packets + 4);
    assert.ok(await pings(a, B_OVERLAY));
    // Park and go in quick succession leave nobody asleep.
    for (let times = 0; times < 20; times++) {
      await nodeA.ask('park');
      await nodeA.ask('resume');
    }
    assert.ok(await pings(a, B_OVERLAY));
  }),
);

test('workers that sleep in the kernel hold neither a stop nor an exit of the process up', { skip }, () =>
  withOverlay('dpstop', {}, async ({ a, b, nodeA, nodeB }) => {
    await nodeA.ask('park');
    assert.equal(await nodeA.end('stop'), 0, 'parked, then stopped');
    assert.equal(await nodeB.end('exit'), 7, 'process.exit while the workers sleep');
    const again = await BareNode.start(a, configOf('a'));
    await again.ask('park');
    assert.equal(await again.end('exit'), 7, 'process.exit while the workers are parked');
    assert.equal(await (await BareNode.start(b, configOf('b'))).end('stop'), 0, 'asleep, then stopped');
  }),
);

test('a persistent device keeps its address and routes for the next start, and can change its shape', { skip }, () =>
  withOverlay('dppers', { persistent: true }, async ({ a, b, nodeB }) => {
    const route = '10.5.0.0/16 dev flannel0 scope link';
    assert.equal(await nodeB.end('stop'), 0);
    assert.match(await b.ip('route show 10.5.0.0/16'), new RegExp(`^${route}`));
    const index = await b.ip('-o link show flannel0');
    const second = await BareNode.start(b, configOf('b', { persistent: true }));
    assert.equal((await b.ip('-o link show flannel0')).split(':')[0], index.split(':')[0], 'the same device');
    assert.ok(await pings(a, B_OVERLAY));
    assert.equal(await second.end('stop'), 0);
    await BareNode.start(b, configOf('b', { persistent: true, workers: 2 }));
    assert.ok(await pings(a, B_OVERLAY), 'with two queues in place of one');
  }),
);

test('a deleted device is a failure that is reported, not a loop', { skip }, () =>
  withOverlay('dpdel', {}, async ({ a, nodeA }) => {
    await a.ip('link delete flannel0');
    assert.deepEqual(await nodeA.answer(), { failed: 'packet worker encap-0 failed: the overlay device was deleted' });
    const { workers } = await nodeA.status();
    assert.deepEqual(
      workers.map(({ name, state }) => [name, state]),
      [
        ['encap-0', 'failed'],
        ['decap-0', 'running'],
      ],
    );
    assert.equal(await nodeA.end('stop'), 0);
  }),
);
