/**
 * `flanneld --takeover`: the next agent takes the running one's place while packets flow, or leaves it as it is.
 *
 * Runs alone: the kernel's queues hold for so long as a takeover takes, and no longer.
 */
import assert from 'node:assert/strict';
import { readSync } from 'node:fs';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { MessageChannel, type Message } from '../../../src/dataplane/message-channel.js';
import { closeFd } from '../../../src/dataplane/native.js';
import { handoverPath } from '../../../src/flanneld/handover.js';
import { Cluster, PREFIX, type ClusterNode } from '../../harness/cluster.js';
import { FLANNELD } from '../../harness/daemon.js';
import { noCompiler } from '../../harness/compile.js';
import { untilReached } from '../../harness/pod-traffic.js';
import {
  compileRestartPrograms,
  failToTakeOver,
  HANDOVER_STEPS,
  takeOver,
  underTraffic,
  type RestartPrograms,
} from '../../harness/restarts.js';
import { httpGet } from '../../harness/traffic.js';
import { until } from '../../harness/until.js';

const PATIENCE_MS = 30_000;
const HEALTH = '--healthz-port=9990';

describe('a takeover', { skip: noCompiler }, () => {
  let cluster: Cluster;
  let node: ClusterNode;
  let programs: RestartPrograms;

  before(async () => {
    cluster = await Cluster.create('takeover', { nodes: 2 });
    await cluster.startAll([HEALTH]);
    [node] = cluster.nodes;
    programs = await compileRestartPrograms(cluster.folder);
  });
  after(() => cluster?.dispose());

  const podsReachEachOther = async (): Promise<void> => {
    const [pod, peer] = cluster.pods;
    await untilReached(pod, peer);
    await untilReached(peer, pod);
  };

  test('loses nothing, overtakes nothing, and ends the one before with 0', async () => {
    const { subnetEnv } = node.running;
    // Twice, for what was handed over can be handed over again.
    for (let time = 0; time < 2; time++) {
      const old = node.running;
      const { there, back, tcp } = await underTraffic(cluster, programs, () => takeOver(node, [HEALTH]));
      const evidence = `${old.evidence}\n${node.running.evidence}`;
      assert.deepEqual([there.lost, there.outOfOrder, there.duplicates], [0, 0, 0], evidence);
      assert.deepEqual([back.lost, back.outOfOrder, back.duplicates], [0, 0, 0], evidence);
      assert.ok(tcp.intact && tcp.bytes > 1_000_000, JSON.stringify(tcp));
      assert.equal((await node.running.status()).pid, node.running.pid);
      assert.deepEqual(node.running.subnetEnv, subnetEnv);
      assert.equal((await httpGet(node.namespace, 'http://127.0.0.1:9990/readyz')).status, 200);
    }
  });

  test('by one that may not administer the network ends in one line, and the running one goes on', async () => {
    const program = join(cluster.folder, 'flanneld-without-rights');
    const rights = ['--bounding-set', '--inh-caps'].map((set) => `${set}=-net_admin`).join(' ');
    await writeFile(program, `#!/bin/sh\nexec setpriv ${rights} '${FLANNELD}' "$@"\n`);
    await chmod(program, 0o755);
    const old = node.running;
    const next = node.launch(['--takeover', `--control-socket=${old.controlSocket}`], { program });
    assert.equal((await next.ended()).status, 1);
    assert.equal(next.said(/--takeover needs CAP_NET_ADMIN/).length, 1, next.evidence);
    node.daemon = old;
    assert.equal((await old.status()).pid, old.pid);
  });

  const hopeless: readonly (readonly [what: string, flag: string, says: RegExp])[] = [
    ['of another network', '--etcd-prefix=/other', /cannot take over .*serves the network at/],
    ['by one that finds no interface', '--iface=not-there', /cannot take over .*not-there/],
  ];
  for (const [what, flag, says] of hopeless) {
    test(`${what} ends in one line, and the running one goes on`, async () => {
      const old = node.running;
      const next = node.launch(['--takeover', flag]);
      assert.equal((await next.ended()).status, 1);
      assert.equal(next.said(says).length, 1, next.evidence);
      assert.doesNotMatch(next.output, /\n\s+at /);
      node.daemon = old;
      await podsReachEachOther();
      assert.equal((await old.status()).pid, old.pid);
    });
  }

  /** Plays the next agent up to where the running one has parked its workers. */
  async function untilParked(): Promise<{ channel: MessageChannel; token: number; close: () => void }> {
    const channel = MessageChannel.connect(handoverPath(node.running.controlSocket));
    channel.send(JSON.stringify({ type: 'take-over', version: 2, prefix: PREFIX }));
    const offer = await next(channel);
    const { names } = JSON.parse(offer.text) as { names: string[] };
    assert.deepEqual(names, ['snapshot', 'token', 'tun-0', 'udp-0', 'control', 'health']);
    channel.send('{"type":"ready"}');
    assert.equal((await next(channel)).text, '{"type":"parked"}');
    const close = (): void => {
      offer.fds.forEach(closeFd);
      channel.close();
    };
    return { channel, token: offer.fds[1], close };
  }

  async function next(channel: MessageChannel): Promise<Message> {
    return (await channel.receive(PATIENCE_MS)) ?? assert.fail(node.running.evidence);
  }

  const take = (token: number): number => readSync(token, Buffer.alloc(8));

  test('by one that is killed half way leaves the running one to go on, and loses nothing', async () => {
    const { there, back, tcp } = await underTraffic(cluster, programs, async () => {
      for (const step of HANDOVER_STEPS) await failToTakeOver(node, step);
    });
    assert.deepEqual([there.lost, there.outOfOrder, there.duplicates], [0, 0, 0], node.running.evidence);
    assert.deepEqual([back.lost, back.outOfOrder, back.duplicates], [0, 0, 0], node.running.evidence);
    assert.ok(tcp.intact, tcp.trouble);
  });

  test('by one that hangs leaves the running one to go on, whether or not it could have gone itself', async () => {
    for (const [round, taken] of [false, true].entries()) {
      const { channel, token, close } = await untilParked();
      try {
        const workers = (await node.running.status()).backend?.workers ?? [];
        assert.deepEqual([...new Set(workers.map(({ state }) => state))], ['parked']);
        if (taken) assert.equal(take(token), 8);
        assert.equal(await channel.receive(PATIENCE_MS), undefined);
        assert.ok(channel.ended);
        assert.throws(() => take(token), /EAGAIN/);
        const complaint = /not taken over: the other one does not run in time; going on/;
        await until('it goes on', () => node.running.said(complaint).length > round, {
          evidence: () => node.running.evidence,
        });
        await podsReachEachOther();
      } finally {
        close();
      }
    }
  });

  test('with flags that what is handed over does not fit waits for the end of the running one, and starts anew', async () => {
    for (const flags of [['--workers=2'], []]) {
      const next = await takeOver(node, [HEALTH, ...flags]).then(() => node.running);
      assert.equal(
        next.said(/the snapshot of the last run is not used: .* do not fit these flags/).length,
        1,
        next.evidence,
      );
      assert.equal((await next.status()).pid, next.pid);
      assert.equal((await httpGet(node.namespace, 'http://127.0.0.1:9990/readyz')).status, 200);
    }
    await podsReachEachOther();
  });

  test('is a start as ever where nobody runs', async () => {
    await node.running.stop();
    const daemon = await node.start(['--takeover', HEALTH]);
    assert.equal(daemon.said(/nobody to take over from/).length, 1);
    await podsReachEachOther();
  });

  test('is refused by an agent that a service manager runs', async () => {
    await node.running.stop();
    const old = await node.start([HEALTH], { environment: { NOTIFY_SOCKET: '@nobody-listens' } });
    const refused = node.launch(['--takeover', HEALTH], { environment: { NOTIFY_SOCKET: '' } });
    assert.equal((await refused.ended()).status, 1);
    assert.equal(refused.said(/cannot take over .*service manager/).length, 1, refused.evidence);
    node.daemon = old;
    await podsReachEachOther();
  });
});
