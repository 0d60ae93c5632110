/**
 * What worked at the start fails while packets flow: one step down, said once, counted, and no packet is lost on the
 * way. A preloaded library stands for the kernel that refuses; device, path and link are real.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Cluster, ETCD_ADDRESS, type ClusterNode } from '../../harness/cluster.js';
import { compileHarness, noCompiler } from '../../harness/compile.js';
import {
  assertDatagramsArrive,
  assertStreamArrives,
  assertTrafficArrives,
  untilReached,
} from '../../harness/pod-traffic.js';
import { ping } from '../../harness/ping.js';
import { until } from '../../harness/until.js';

const EIO = 5;
const EINVAL = 22;
const ENOSYS = 38;

/** Long enough for something to happen in the middle of it. */
const LONG_STREAM_BYTES = 200_000_000;
const MIDDLE_BYTES = 10_000_000;

describe('offloads that fail while packets flow', { skip: noCompiler }, () => {
  let cluster: Cluster;
  let ours: ClusterNode, second: ClusterNode, far: ClusterNode;
  let library: string;

  before(async () => {
    cluster = await Cluster.create('failing', { nodes: 3, far: { 3: 1500 } });
    [ours, second, far] = cluster.nodes;
    library = await compileHarness('refuse_trains.cc', cluster.folder, ['-shared', '-fPIC']);
    await cluster.startAll();
    // Datagrams that leave as trains, by next hop.
    await ours.namespace.exec('nft', ['-f', '-'], {
      input: `table ip trains {
        counter second { }
        counter far { }
        chain output { type filter hook output priority 0;
          ip daddr ${second.address} udp dport 8285 meta length > 1500 counter name second
          ip daddr ${far.address} udp dport 8285 meta length > 1500 counter name far
        }
      }`,
    });
    await restart({});
  });
  after(() => cluster?.dispose());

  async function restart(environment: Record<string, string>, flags: readonly string[] = []): Promise<void> {
    await ours.running.stop();
    await ours.start(flags, { environment });
    for (const { pods } of [second, far]) await untilReached(ours.pods[0], pods[0]);
  }

  async function backend() {
    const { backend: status } = await ours.running.status();
    assert.ok(status);
    return status;
  }

  async function offload(name: string) {
    const found = (await backend()).offloads.find((one) => one.name === name);
    assert.ok(found);
    return found;
  }

  async function trainsTo(hop: 'second' | 'far'): Promise<number> {
    const { stdout } = await ours.namespace.exec('nft', ['list', 'counter', 'ip', 'trains', hop]);
    return Number(/packets (\d+)/.exec(stdout)?.[1]);
  }

  /** The host's IPv6 looks for routers on every device. */
  async function assertNothingWasDropped(): Promise<void> {
    const { encap, decap } = await backend();
    assert.deepEqual([{ ...encap.dropped, 'not-ipv4': 0 }, decap.dropped], [{ 'not-ipv4': 0 }, {}]);
  }

  for (const [name, errno] of [
    ['EIO', EIO],
    ['EINVAL', EINVAL],
  ] as const) {
    test(`trains to one next hop that fail with ${name} go there singly, and to others as before`, async (context) => {
      await restart({ LD_PRELOAD: library, REFUSE_TRAINS_TO: `${second.address}=${errno}` });
      if ((await offload('udp-segment')).state === 'off') {
        context.skip('this kernel has no UDP_SEGMENT');
        return;
      }
      const before = { second: await trainsTo('second'), far: await trainsTo('far') };
      for (const { pods } of [second, far]) {
        await assertDatagramsArrive(ours.pods[0], pods[0]);
        await assertStreamArrives(ours.pods[0], pods[0], 8_000_000);
      }
      const { state, stepDowns, reason = '' } = await offload('udp-segment');
      assert.equal(state, 'on');
      assert.ok(stepDowns >= 1, `${stepDowns} steps down`);
      assert.match(reason, new RegExp(`to ${second.address}: .*${name}`));
      assert.equal(ours.running.said(/offload udp-segment/).length, 1, ours.running.evidence);
      assert.equal(await trainsTo('second'), before.second);
      assert.ok((await trainsTo('far')) > before.far, 'the other next hop gets trains');
      await assertNothingWasDropped();
    });
  }

  test('sendmmsg and recvmmsg that fail later are given up for good', async () => {
    // Without trains every batch is several messages.
    await restart({ LD_PRELOAD: library, REFUSE_CALLS_AFTER: `20=${ENOSYS}` }, ['--disable-offload=udp-segment']);
    await assertTrafficArrives(ours.pods[0], second.pods[0]);
    for (const name of ['sendmmsg', 'recvmmsg']) {
      const { state, stepDowns, reason = '' } = await offload(name);
      assert.deepEqual([state, stepDowns], ['off', 1], name);
      assert.match(reason, /any more: .*ENOSYS/);
      assert.equal(ours.running.said(new RegExp(`offload ${name}`)).length, 1, ours.running.evidence);
    }
    await assertNothingWasDropped();
  });

  test('a device that no longer takes over checksums carries everything', async () => {
    await restart({});
    await ours.namespace.exec('ethtool', ['-K', 'eth0', 'tx', 'off']);
    try {
      await assertTrafficArrives(ours.pods[0], second.pods[0]);
      await assertNothingWasDropped();
    } finally {
      await ours.namespace.exec('ethtool', ['-K', 'eth0', 'tx', 'on']);
    }
  });

  /** Waits until a stream that began at `bytes` is under way. */
  async function untilInTheMiddle(bytes: number): Promise<void> {
    await until('the stream is under way', async () => (await backend()).encap.bytes > bytes + MIDDLE_BYTES);
  }

  test('a link that goes down and up in the middle of a stream', async () => {
    const { bytes } = (await backend()).encap;
    const stream = assertStreamArrives(ours.pods[0], second.pods[0], LONG_STREAM_BYTES);
    await untilInTheMiddle(bytes);
    await ours.namespace.ip('link set eth0 down');
    try {
      await until('packets find no link', async () => {
        await ping(ours.pods[0].namespace, second.pods[0].address, { count: 1, waitSeconds: 0.1 });
        return (await ours.running.drops('encap', 'send-failed')) > 0;
      });
    } finally {
      await ours.namespace.setUp('eth0');
      await ours.namespace.addRoute('default', `via ${ETCD_ADDRESS}`);
    }
    await stream;
    await untilReached(ours.pods[0], far.pods[0]);
    assert.ok((await offload('udp-segment')).stepDowns === 0, 'a link that is down is no reason to step down');
  });

  test('a path that grows narrower than trains in the middle of a stream', async () => {
    const { bytes } = (await backend()).encap;
    const stream = assertStreamArrives(ours.pods[0], far.pods[0], LONG_STREAM_BYTES);
    await untilInTheMiddle(bytes);
    await cluster.underlay.setMtu('node3', 1300);
    await stream;
    await assertStreamArrives(ours.pods[0], far.pods[0]);
    await assertDatagramsArrive(ours.pods[0], second.pods[0]);
    assert.ok((await ours.running.drops('encap', 'packet-too-big')) > 0, 'the pod was told of the narrower path');
    assert.equal((await offload('udp-segment')).state, 'on');
  });
});
