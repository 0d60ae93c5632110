/**
 * `flanneld --takeover` of an agent with two queues, and what may come between: a next one that dies at any step, two next
 * ones at once, a running one that starts, stops, dies or loses its device meanwhile.
 *
 * Runs alone: the kernel's queues hold for so long as a takeover takes, and no longer.
 */
import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { MessageChannel, MessageListener } from '../../../src/dataplane/message-channel.js';
import { closeFd } from '../../../src/dataplane/native.js';
import { handoverPath } from '../../../src/flanneld/handover.js';
import { Cluster, PREFIX, type ClusterNode, type Pod } from '../../harness/cluster.js';
import { noCompiler } from '../../harness/compile.js';
import type { Daemon } from '../../harness/daemon.js';
import { PacedFlow, type DirectionAccount } from '../../harness/paced-traffic.js';
import { untilReached } from '../../harness/pod-traffic.js';
import {
  compileRestartPrograms,
  failToTakeOver,
  HANDFUL,
  HANDOVER_STEPS,
  takeOver,
  withNativeFault,
  type NativeFault,
  type RestartPrograms,
} from '../../harness/restarts.js';
import { ServiceManager } from '../../harness/service-manager.js';
import { until } from '../../harness/until.js';

const PATIENCE_MS = 30_000;

const TWO_QUEUES = '--workers=2';
/** Datagrams a second of each flow, each way. */
const RATE = 250;
const FIRST_PORT = 5200;
/** Of the messages that the next one sends: to ask, and to say that it stands ready or that the other is to leave. */
const SECOND_MESSAGE = 'sendMessage 2';

describe('a takeover of an agent with two queues', { skip: noCompiler }, () => {
  let cluster: Cluster;
  let node: ClusterNode;
  let programs: RestartPrograms;
  let gates = 0;

  before(async () => {
    cluster = await Cluster.create('troubled', { nodes: 2 });
    await cluster.startAll([TWO_QUEUES], 3);
    [node] = cluster.nodes;
    programs = await compileRestartPrograms(cluster.folder);
  });
  after(() => cluster?.dispose());

  /** Pairs whose addresses differ by 0, 1, 6 and 7 in their last bits: the device's hash puts no such four on one queue. */
  function pairs(): readonly (readonly [Pod, Pod])[] {
    const [[a, b], [x, y, z]] = cluster.nodes.map(({ pods }) => pods);
    return [
      [a, x],
      [a, y],
      [a, z],
      [b, z],
    ];
  }

  async function podsReachEachOther(): Promise<void> {
    await Promise.all(pairs().flatMap(([from, to]) => [untilReached(from, to), untilReached(to, from)]));
  }

  /** What became of each flow, each way, while `body` ran. */
  async function underSeveralFlows(body: () => Promise<void>): Promise<DirectionAccount[]> {
    await podsReachEachOther();
    const flows = pairs().map(
      ([from, to], index) =>
        new PacedFlow({ program: programs.pacedTraffic, from, to, rate: RATE, port: FIRST_PORT + index }),
    );
    try {
      await Promise.all(flows.map((flow) => flow.listening()));
      for (const flow of flows) flow.start();
      await body();
      const accounts = await Promise.all(flows.map((flow) => flow.stop()));
      return accounts.flatMap(({ there, back }) => [there, back]);
    } finally {
      for (const flow of flows) flow.kill();
    }
  }

  function assertNothingLost(accounts: readonly DirectionAccount[], evidence: string, inHand = 0): void {
    for (const { sent, outOfOrder, duplicates } of accounts) {
      assert.ok(sent > 0, 'the flow was sent');
      assert.deepEqual([outOfOrder, duplicates], [0, 0], evidence);
    }
    const lost = accounts.reduce((sum, account) => sum + account.lost, 0);
    assert.ok(lost <= inHand, `${lost} lost: ${JSON.stringify(accounts)}\n${evidence}`);
  }

  /** Both queues of the agent carry packets. */
  async function assertBothQueuesCarry(daemon: Daemon): Promise<void> {
    const batches = async (): Promise<readonly number[]> =>
      (await daemon.status()).backend?.workers
        .filter(({ direction, state }) => direction === 'encap' && state === 'running')
        .map((worker) => worker.batches) ?? [];
    const ofBoth = async (): Promise<readonly number[] | undefined> => {
      const counts = await batches();
      return counts.length === 2 ? counts : undefined;
    };
    const before = await until('both queues have a worker', ofBoth, { evidence: () => daemon.evidence });
    await until('both queues carry packets', async () => {
      await podsReachEachOther();
      return (await batches()).every((count, index) => count > before[index]);
    });
  }

  /** Starts the next agent, beside the node's daemon. */
  function launchNext(fault: NativeFault | undefined, flags: readonly string[] = []): Daemon {
    const old = node.running;
    const next = node.launch(['--takeover', TWO_QUEUES, ...flags], {
      environment: fault === undefined ? {} : withNativeFault(fault),
    });
    node.daemon = old;
    return next;
  }

  /** Starts the next agent, which stands still at that call until it is let go on. */
  async function heldAt(call: string): Promise<{ readonly next: Daemon; readonly release: () => void }> {
    const gate = join(cluster.folder, `gate-${++gates}`);
    const next = launchNext(`hold ${call as `${string} ${number}`} ${gate}`);
    await next.saying(/^at /);
    return { next, release: () => writeFileSync(gate, '') };
  }

  const goesOn = /not taken over: the other one has ended; going on/;

  async function killedAt(call: string, flags: readonly string[]): Promise<void> {
    const { running } = node;
    const complaints = running.said(goesOn).length;
    const next = launchNext(`kill ${call as `${string} ${number}`}`, flags);
    await next.ended();
    assert.equal(next.said(/^at /).length, 1, next.evidence);
    await until('the running agent goes on', () => running.said(goesOn).length > complaints, {
      evidence: () => running.evidence,
    });
  }

  /** Called with the device's descriptors in hand, with all ready, and when the running one has parked. */
  const kills: readonly (readonly [call: string, ...flags: string[]])[] = [
    ['queueShape 1'],
    ['openWakeup 1'],
    [SECOND_MESSAGE],
    ['setTunOffloads 1'],
    ['tryUdpOffload 1'],
    // Flags that what is handed over does not fit: about to have the running one leave.
    [SECOND_MESSAGE, '--workers=1'],
    [SECOND_MESSAGE, '--workers=3'],
    [SECOND_MESSAGE, '--disable-offload=udp-gro'],
    ['tryUdpOffload 1', '--disable-offload=tun-tso'],
  ];

  test('by one that is killed at any step leaves the running one all that it has, and loses nothing', async () => {
    const device = (await node.running.status()).backend?.device ?? '';
    const featuresOf = async (): Promise<string> => (await node.namespace.exec('ethtool', ['-k', device])).stdout;
    const features = await featuresOf();
    const accounts = await underSeveralFlows(async () => {
      for (const step of HANDOVER_STEPS) await failToTakeOver(node, step);
      for (const [call, ...flags] of kills) await killedAt(call, flags);
    });
    assertNothingLost(accounts, node.running.evidence);
    await assertBothQueuesCarry(node.running);
    assert.equal(await featuresOf(), features);
  });

  test('loses nothing, and overtakes nothing', async () => {
    const old = node.running;
    const accounts = await underSeveralFlows(() => takeOver(node, [TWO_QUEUES]));
    assertNothingLost(accounts, `${old.evidence}\n${node.running.evidence}`);
    await assertBothQueuesCarry(node.running);
  });

  /** An environment in which `ip` fails once, where its arguments match the pattern of a shell. */
  async function ipFailingOnce(pattern: string): Promise<Readonly<Record<string, string>>> {
    const folder = join(cluster.folder, `ip-${++gates}`);
    const failed = join(folder, 'failed');
    mkdirSync(folder);
    const { stdout: real } = await node.namespace.exec('sh', ['-c', 'command -v ip']);
    const fail = `if [ ! -e '${failed}' ]; then : > '${failed}'; echo 'Device or resource busy' >&2; exit 2; fi`;
    const lines = ['#!/bin/sh', `case "$*" in ${pattern}) ${fail} ;; esac`, `exec '${real.trim()}' "$@"`];
    writeFileSync(join(folder, 'ip'), lines.join('\n'), { mode: 0o755 });
    return { PATH: `${folder}:${process.env.PATH}` };
  }

  test('to one whose host fails it before packets flow there leaves the running one as it is', async () => {
    const old = node.running;
    const environment = await ipFailingOnce('*-json*link*|*-json*addr*');
    const accounts = await underSeveralFlows(async () => {
      const next = node.launch(['--takeover', TWO_QUEUES], { environment });
      node.daemon = old;
      assert.equal((await next.ended()).status, 1);
      assert.equal(next.said(/cannot take over from the running flanneld: .*resource busy/).length, 1, next.evidence);
    });
    assertNothingLost(accounts, old.evidence);
    await assertBothQueuesCarry(old);
  });

  test('to one whose host fails it when packets flow there keeps them flowing', async () => {
    const old = node.running;
    const environment = await ipFailingOnce('*-batch*');
    const accounts = await underSeveralFlows(() => takeOver(node, [TWO_QUEUES], { environment }));
    const next = node.running;
    assert.equal(next.said(/flannel0 stays as the last run left it: .*resource busy/).length, 1, next.evidence);
    assertNothingLost(accounts, `${old.evidence}\n${next.evidence}`);
    await assertBothQueuesCarry(next);
  });

  test('to one whose flags for the store cannot be used leaves the running one as it is', async () => {
    const old = node.running;
    const next = launchNext(undefined, ['--etcd-cafile=/nowhere/ca.pem']);
    assert.equal((await next.ended()).status, 2);
    assert.equal(next.said(/--etcd-cafile/).length, 1, next.evidence);
    await assertBothQueuesCarry(old);
  });

  test('by two, of which one comes first: the other one ends in one line', async () => {
    const old = node.running;
    const accounts = await underSeveralFlows(async () => {
      const { next, release } = await heldAt(SECOND_MESSAGE);
      const late = launchNext(undefined);
      assert.equal((await late.ended()).status, 1);
      assert.equal(late.said(/cannot take over from the running flanneld: another one is taking over/).length, 1);
      release();
      await next.ready();
      assert.equal((await old.ended()).status, 0);
      node.daemon = next;
    });
    assertNothingLost(accounts, `${old.evidence}\n${node.running.evidence}`);
    assert.equal((await node.running.status()).pid, node.running.pid);
  });

  test('by two at the same moment makes one of them the agent', async () => {
    const old = node.running;
    const both: Daemon[] = [];
    const accounts = await underSeveralFlows(async () => {
      both.push(launchNext(undefined), launchNext(undefined));
      assert.equal((await old.ended()).status, 0, old.evidence);
      await until('one of them ends', () => both.some(({ running }) => !running), {
        evidence: () => both.map(({ evidence }) => evidence).join('\n'),
      });
    });
    const [stays, goes] = both[0].running ? both : both.reverse();
    const evidence = `${stays.evidence}\n${goes.evidence}`;
    assert.ok(stays.running, evidence);
    node.daemon = stays;
    // One that came so late that it found the first in its place took that over in turn, or was taken over from.
    const { status } = await goes.ended();
    const said = goes.said(status === 1 ? /cannot take over|belongs to/ : /ended: another flanneld has taken over/);
    assert.equal(said.length, 1, evidence);
    await until('it answers', async () => (await stays.status()).state === 'ready', { evidence: () => evidence });
    assert.equal((await stays.status()).pid, stays.pid);
    assertNothingLost(accounts, evidence);
  });

  for (const [signal, inHand] of [
    ['SIGTERM', 0],
    ['SIGKILL', 2 * HANDFUL],
  ] as const) {
    test(`of an agent that ${signal} ends meanwhile goes on by itself`, async () => {
      const old = node.running;
      const accounts = await underSeveralFlows(async () => {
        const { next, release } = await heldAt(SECOND_MESSAGE);
        await old.stop(signal);
        release();
        await next.ready();
        node.daemon = next;
      });
      assertNothingLost(accounts, `${old.evidence}\n${node.running.evidence}`, inHand);
      assert.equal((await node.running.status()).pid, node.running.pid);
      await assertBothQueuesCarry(node.running);
    });
  }

  test('of an agent that has been told to stop, whenever that is, ends with one that runs', async () => {
    const old = node.running;
    const next = launchNext(undefined);
    await old.stop();
    await next.ready();
    node.daemon = next;
    await assertBothQueuesCarry(next);
  });

  test('of an agent that loses its device meanwhile is given up, and that one goes on with a new device', async () => {
    const old = node.running;
    const { next, release } = await heldAt(SECOND_MESSAGE);
    await node.namespace.ip('link delete flannel0');
    await old.saying(/packets do not flow: .*device was deleted/);
    release();
    assert.equal((await next.ended()).status, 1);
    assert.equal(next.said(/cannot take over .*: it did not make room/).length, 1, next.evidence);
    assert.equal(old.said(/not taken over: .*; going on/).length, 1, old.evidence);
    await assertBothQueuesCarry(old);
  });

  test('of an agent without a device is refused in one line, and that one comes back', async () => {
    const old = node.running;
    const taken = 'route add 10.5.0.0/16 dev eth0 metric 1000';
    await node.namespace.ip(taken);
    await node.namespace.ip('link delete flannel0');
    try {
      await old.saying(/the backend cannot be started again/);
      const next = launchNext(undefined);
      assert.equal((await next.ended()).status, 1);
      assert.equal(next.said(/cannot take over .*: packets do not flow: /).length, 1, next.evidence);
    } finally {
      await node.namespace.ip(taken.replace('add', 'delete'));
    }
    await assertBothQueuesCarry(old);
  });

  test('of an agent that is starting is refused in one line, and that one goes on', async () => {
    await node.running.stop();
    const folder = `--subnet-file=${join(cluster.folder, 'not-yet.env')}`;
    const old = node.launch([TWO_QUEUES, folder, '--etcd-prefix=/not/yet']);
    await old.saying(/waiting for the network configuration/);
    const next = launchNext(undefined, ['--etcd-prefix=/not/yet']);
    assert.equal((await next.ended()).status, 1);
    assert.equal(next.said(/cannot take over .*: waiting for the network configuration/).length, 1, next.evidence);
    assert.ok(old.running);
    await old.stop();
    await node.start([TWO_QUEUES]);
    await podsReachEachOther();
  });

  test('by next ones that do not speak as they should leaves the running one to go on', async () => {
    const { running } = node;
    const path = handoverPath(running.controlSocket);
    MessageChannel.connect(path).close();
    const babbler = MessageChannel.connect(path);
    babbler.send('no JSON');
    assert.match((await babbler.receive(PATIENCE_MS))?.text ?? '', /"refused".*no request to take over/);
    babbler.close();
    const newer = MessageChannel.connect(path);
    newer.send(JSON.stringify({ type: 'take-over', version: 99, prefix: PREFIX, more: true }));
    const offer = (await newer.receive(PATIENCE_MS)) ?? assert.fail(running.evidence);
    assert.equal((JSON.parse(offer.text) as { version: number }).version, 2);
    newer.send('{"type":"something new"}');
    await running.saying(/not taken over: the other one is not ready/);
    offer.fds.forEach(closeFd);
    newer.close();
    await assertBothQueuesCarry(running);
  });

  type Part = (channel: MessageChannel, end: () => void) => void | Promise<void>;

  /** Plays a running agent, to the first that asks. */
  async function facing(part: Part, next: () => Promise<void>): Promise<void> {
    const path = handoverPath(node.running.controlSocket);
    const end = (): void => {
      listener.close();
      rmSync(path);
    };
    let ended = false;
    const endOnce = (): void => {
      if (!ended) end();
      ended = true;
    };
    const listener = new MessageListener(path, (channel) => {
      const serve = async (): Promise<void> => {
        await channel.receive(PATIENCE_MS);
        await part(channel, endOnce);
        channel.close();
      };
      void serve();
    });
    try {
      await next();
    } finally {
      endOnce();
    }
  }

  test('of one of another release, before or after, starts from nothing, with one line', async () => {
    for (const version of [1, 99]) {
      await node.running.stop();
      const snapshot = openSync('/dev/null', 'r');
      const offer: Part = async (channel, end) => {
        channel.send(JSON.stringify({ type: 'offer', version, names: ['snapshot'] }), [snapshot]);
        assert.equal((await channel.receive(PATIENCE_MS))?.text, '{"type":"leave"}');
        end();
      };
      await facing(offer, async () => {
        const next = await node.start(['--takeover', TWO_QUEUES]);
        assert.equal(next.said(new RegExp(`of version ${version}, and this release reads 2: it is ignored`)).length, 1);
      });
      closeSync(snapshot);
      await assertBothQueuesCarry(node.running);
    }
  });

  test('of one that ends when it is asked is a start as ever', async () => {
    await node.running.stop();
    await facing(
      (_channel, end) => end(),
      async () => {
        const next = await node.start(['--takeover', TWO_QUEUES]);
        assert.equal(next.said(/nobody to take over from/).length, 1, next.evidence);
      },
    );
  });

  test('of one that does not speak as it should ends in one line', async () => {
    const say =
      (text: string): Part =>
      (channel) =>
        channel.send(text);
    const parts: readonly (readonly [part: Part, complaint: RegExp])[] = [
      [say('no JSON'), /its answer is not understood/],
      [say('null'), /its answer is not understood/],
      [say('{"type":"offer","version":2}'), /its answer is not understood/],
      [say('{"type":"offer","version":2,"names":["snapshot","token"]}'), /it does not hand over its token/],
      [() => undefined, /it does not answer/],
      [async (channel) => void (await channel.receive(PATIENCE_MS)), /it does not answer/],
    ];
    await node.running.stop();
    for (const [part, complaint] of parts) {
      await facing(part, async () => {
        const next = launchNext(undefined);
        assert.equal((await next.ended()).status, 1, next.evidence);
        const complaints = next.lines.filter((line) => !line.includes(' INFO '));
        assert.equal(complaints.length, 1, next.evidence);
        assert.match(complaints[0], /ERROR cannot take over from the running flanneld: /);
        assert.match(complaints[0], complaint);
      });
    }
    await node.start([TWO_QUEUES]);
  });

  test('is not needed for what another release has left with the service manager: that is closed, in two lines', async () => {
    await node.running.stop();
    const release = join(cluster.folder, 'release');
    const other = fileURLToPath(new URL('../../harness/other-release.js', import.meta.url));
    const lines = [
      '#!/bin/sh',
      `[ ! -e '${release}' ] || exec '${programs.service}' "$@"`,
      `: > '${release}'`,
      `exec '${process.execPath}' '${other}' flannel0 2 '${node.running.subnetFile}.snapshot'`,
    ];
    const service = join(cluster.folder, 'service');
    writeFileSync(service, `${lines.join('\n')}\n`, { mode: 0o755 });
    const manager = new ServiceManager({
      program: programs.serviceManager,
      ...{ daemon: service, node, flags: [TWO_QUEUES] },
    });
    try {
      await manager.untilReady('start');
      assert.equal(await manager.tell('store', /^store/), 'store next-0 next-1 next-2');
      await manager.untilReady('restart');
      const complaints = manager.log.split('\n').filter((line) => /snapshot .* is not used|do not fit/.test(line));
      assert.equal(complaints.length, 2, manager.log);
      assert.match(complaints[1], /closed names="?next-0, next-1, next-2/);
      assert.equal(await manager.tell('store', /^store/), 'store tun-0 tun-1 udp-0 udp-1');
      // A queue that nobody reads would take some of these.
      await podsReachEachOther();
    } finally {
      await manager.close();
    }
  });
});
