/**
 * `flannelctl trace` and `capture` on a node that forwards, delivers and drops:
 *
 *   pod1 ─ node1 ══ underlay ══ node2 ─ pod2
 *                     ║   ╚═════ node3 ─ pod3
 *                     ╚═ a stranger
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { DropLine } from '../../../src/debug/drops.js';
import type { TracedPacket } from '../../../src/debug/trace/trace-line.js';
import { runCommand } from '../../../src/host/command.js';
import { Cluster, STRANGER_ADDRESS, type ClusterNode, type Pod } from '../../harness/cluster.js';
import { FLANNELCTL } from '../../harness/daemon.js';
import { udpPacket } from '../../harness/inner-packet.js';
import { ping } from '../../harness/ping.js';
import { DatagramSender, httpGet, sendTcp, withTcpServer } from '../../harness/traffic.js';
import { until } from '../../harness/until.js';

const DISSECTOR = fileURLToPath(new URL('../../../../deploy/flannel-udp.lua', import.meta.url));
const hasTshark = await runCommand('tshark', ['--version'], { allowFailure: true }).then(
  () => true,
  () => false,
);

const READ_BY_TSHARK = `tshark -n -r - -T fields -e icmp.type -Y 'frame.interface_name == "flannel0"' 2>/dev/null`;

/** A `flannelctl trace` or `capture` that runs. */
class Watch {
  private out = Buffer.alloc(0);
  private errors = '';
  private readonly child: ChildProcess;
  private status: number | null | undefined;

  private static readonly running = new Set<Watch>();

  /** @param reader - a shell's command that reads what it writes */
  static async start(node: ClusterNode, args: readonly string[], reader?: string): Promise<Watch> {
    const watch = new Watch(node, args, reader);
    await until('flannelctl watches', () => watch.errors.includes('watching'), { evidence: () => watch.errors });
    return watch;
  }

  /** Ends those that a failed test has left. */
  static endAll(): void {
    for (const watch of Watch.running) watch.child.kill('SIGKILL');
  }

  private constructor(node: ClusterNode, args: readonly string[], reader: string | undefined) {
    const words = [FLANNELCTL, args[0], `--socket=${node.running.controlSocket}`, ...args.slice(1)];
    const [program, ...rest] = reader === undefined ? words : ['bash', '-c', `"$0" "$@" | ${reader}`, ...words];
    this.child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
    Watch.running.add(this);
    this.child.stdout?.on('data', (piece: Buffer) => (this.out = Buffer.concat([this.out, piece])));
    this.child.stderr?.on('data', (piece: Buffer) => (this.errors += piece.toString()));
    this.child.once('close', (status) => {
      this.status = status;
      Watch.running.delete(this);
    });
  }

  get output(): Buffer {
    return this.out;
  }

  get stderr(): string {
    return this.errors;
  }

  get packets(): TracedPacket[] {
    const lines = this.out.toString().split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line) as TracedPacket);
  }

  async sees(what: string, matches: (packet: TracedPacket) => boolean): Promise<TracedPacket> {
    return until(what, () => this.packets.find(matches), { evidence: () => this.out.toString() + this.errors });
  }

  /** Its exit status, when it ends by itself. */
  async ended(): Promise<number | null> {
    await until('flannelctl ends', () => this.status !== undefined, { evidence: () => this.errors });
    return this.status ?? null;
  }

  async end(): Promise<number | null> {
    this.child.kill('SIGINT');
    return this.ended();
  }
}

describe('people who watch packets', () => {
  let cluster: Cluster;
  let node1: ClusterNode, node2: ClusterNode;
  let pod1: Pod, pod2: Pod;

  before(async () => {
    cluster = await Cluster.create('watch', { nodes: 3 });
    await cluster.startAll();
    [node1, node2] = cluster.nodes;
    [pod1, pod2] = cluster.pods;
    await until('pods reach each other', async () => {
      return (await ping(pod1.namespace, pod2.address, { count: 1, waitSeconds: 1 })).received === 1;
    });
  });
  after(async () => {
    Watch.endAll();
    await cluster?.dispose();
  });

  const trace = (...args: string[]) => Watch.start(node1, ['trace', '--json', ...args]);
  const lease = (pod: Pod) => pod.address.replace(/\d+$/, '0/24');

  test('a good packet, one to nobody, one at its last hop and a spoofed one each show with their verdict', async () => {
    const watch = await trace();
    await ping(pod1.namespace, pod2.address, { count: 1 });
    const good = await watch.sees('the good one', ({ inner }) => inner.destination === pod2.address);
    assert.match(good.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
    assert.ok(Math.abs(Date.parse(good.time) - Date.now()) < 60_000, good.time);
    assert.deepEqual(good, {
      time: good.time,
      direction: 'encap',
      verdict: 'forwarded',
      reason: null,
      inner: {
        ...{ source: pod1.address, destination: pod2.address, protocol: 'icmp', length: 84, ttl: 63 },
        ...{ sourcePort: null, destinationPort: null },
      },
      outer: { source: node1.address, destination: node2.address },
      lease: lease(pod2),
    });
    const reply = await watch.sees('its reply', ({ verdict }) => verdict === 'delivered');
    assert.deepEqual(
      [reply.direction, reply.inner.source, reply.inner.destination, reply.outer, reply.lease],
      ['decap', pod2.address, pod1.address, { source: node2.address, destination: node1.address }, lease(pod2)],
    );

    await ping(pod1.namespace, '10.5.254.9', { count: 1, waitSeconds: 0.2 });
    const toNobody = await watch.sees('the one to nobody', ({ reason }) => reason === 'no-lease');
    assert.deepEqual(
      [toNobody.verdict, toNobody.inner.destination, toNobody.outer, toNobody.lease],
      ['dropped', '10.5.254.9', null, null],
    );

    // The kernel takes one hop between the pod's bridge and flannel0.
    await pod1.namespace.exec('ping', ['-c', '1', '-W', '1', '-t', '2', pod2.address], { allowFailure: true });
    const lastHop = await watch.sees('the one at its last hop', ({ reason }) => reason === 'ttl-exceeded');
    assert.deepEqual([lastHop.direction, lastHop.inner.ttl, lastHop.inner.source], ['encap', 1, pod1.address]);

    const member = new DatagramSender(node2.namespace, node1.address, 8285);
    const stranger = new DatagramSender(cluster.stranger, node1.address, 8285);
    await member.send(udpPacket({ source: '10.5.254.9', destination: pod1.address, ttl: 40 }));
    const spoofed = await watch.sees('the spoofed one', ({ reason }) => reason === 'spoofed-source');
    assert.deepEqual(
      [spoofed.direction, spoofed.verdict, spoofed.inner, spoofed.outer],
      [
        ...['decap', 'dropped'],
        {
          ...{ source: '10.5.254.9', destination: pod1.address, protocol: 'udp', length: 33, ttl: 40 },
          ...{ sourcePort: 1111, destinationPort: 7777 },
        },
        { source: node2.address, destination: node1.address },
      ],
    );
    await stranger.send(udpPacket({ source: pod2.address, destination: pod1.address }));
    const strange = await watch.sees('the stranger', ({ reason }) => reason === 'unknown-sender');
    assert.equal(strange.outer?.source, STRANGER_ADDRESS);
    assert.equal(await watch.end(), 0);
    await Promise.all([member.close(), stranger.close()]);
  });

  test('filters, direction, drops and reasons choose what is shown; a count ends it', async () => {
    const watches = await Promise.all([
      trace(`icmp and dst host ${pod2.address} and icmp[0] == 8`, '--count', '3'),
      trace('--direction', 'decap', '--count', '3', 'icmp'),
      trace('--outer', `src host ${node2.address} and udp port 8285`, '--count', '3', 'icmp'),
      trace('--drops', '--count', '2', 'ip'),
      trace('--reason', 'no-lease', '--count', '2', '--stats'),
      trace('--sample', '1/2', 'icmp', '--count', '3'),
    ]);
    await ping(pod1.namespace, '10.5.254.9', { count: 2, waitSeconds: 0.2 });
    await ping(pod1.namespace, pod2.address, { count: 10 });
    for (const watch of watches) assert.equal(await watch.ended(), 0, watch.stderr);
    const [filtered, incoming, outer, drops, reason, sampled] = watches;
    assert.ok(
      filtered.packets.every(({ inner, direction }) => inner.destination === pod2.address && direction === 'encap'),
    );
    assert.ok(incoming.packets.every(({ direction, verdict }) => direction === 'decap' && verdict === 'delivered'));
    assert.ok(outer.packets.every((packet) => packet.outer?.source === node2.address));
    for (const watch of [drops, reason])
      assert.deepEqual(
        watch.packets.map((one) => one.reason),
        ['no-lease', 'no-lease'],
      );
    assert.equal(sampled.packets.length, 3);
    assert.match(
      reason.stderr,
      /^DIRECTION +VERDICT +REASON +SHOWN +PACKETS +BYTES\nencap +dropped +no-lease +2 +2 +168$/m,
    );
  });

  test('for people, a line says it all', async () => {
    const watch = await Watch.start(node1, ['trace', 'tcp or host 10.5.254.9']);
    await ping(pod1.namespace, '10.5.254.9', { count: 1, waitSeconds: 0.2 });
    await httpGet(pod1.namespace, `http://${pod2.address}:9/`).catch(() => undefined);
    const seen = (pattern: RegExp) =>
      until(String(pattern), () => pattern.test(watch.output.toString()), { evidence: () => watch.output.toString() });
    const dots = (text: string): string => text.replaceAll('.', '\\.');
    const start = `^\\d\\d:\\d\\d:\\d\\d\\.\\d{6} ${dots(node1.address)}`;
    const lost = 'echo request \\(type 8 code 0\\) id \\d+ seq 1 length 84 ttl 63 dropped: no-lease: no node leases';
    await seen(new RegExp(`${start} encap ${dots(pod1.address)} > 10\\.5\\.254\\.9 icmp ${lost}`, 'm'));
    const forwarded = `length 60 ttl 63 forwarded to ${dots(node2.address)}:8285 by lease ${dots(lease(pod2))}$`;
    await seen(
      new RegExp(`${start} encap ${dots(pod1.address)}:\\d+ > ${dots(pod2.address)}:9 tcp \\[S\\] ${forwarded}`, 'm'),
    );
    const delivered = `length 40 ttl \\d+ delivered, from ${dots(node2.address)}:8285`;
    await seen(
      new RegExp(
        `${start} decap ${dots(pod2.address)}:9 > ${dots(pod1.address)}:\\d+ tcp \\[R\\.\\] ${delivered}`,
        'm',
      ),
    );
    assert.equal(await watch.end(), 0);
  });

  test('super-packets are shown as such, and what was merged on the way in', async () => {
    const server = pod2.namespace.spawn('iperf3', ['--server', '--one-off', '--forceflush'], { stdio: 'pipe' });
    await once(server.stdout ?? server, 'data');
    const watch = await trace('tcp and greater 3000', '--direction', 'encap', '--count', '1');
    const receiving = await Watch.start(node2, ['trace', '--json', 'tcp and greater 1000', '--direction', 'decap']);
    await pod1.namespace.exec('iperf3', ['--client', pod2.address, '--bytes', '4M']);
    assert.equal(await watch.ended(), 0, watch.stderr);
    const [{ inner, segments = 0 }] = watch.packets;
    assert.equal(segments, Math.ceil((inner.length - 52) / 1420));
    const arrived = await receiving.sees('a merged one', ({ merged = 1 }) => merged > 1);
    assert.ok(arrived.inner.length <= 1472, 'each is as it was on the wire');
    assert.equal(await receiving.end(), 0);
  });

  test(
    'a capture has both sides of each packet with its verdict, and the dissector shows what is inside',
    { skip: !hasTshark },
    async () => {
      const path = join(cluster.folder, 'all.pcapng');
      const watch = await Watch.start(node1, ['capture', '-w', path, '--count', '5', 'icmp or udp port 7777']);
      await ping(pod1.namespace, '10.5.254.9', { count: 1, waitSeconds: 0.2 });
      await pod1.namespace.exec('ping', ['-c', '1', '-W', '1', '-t', '2', pod2.address], { allowFailure: true });
      const member = new DatagramSender(node2.namespace, node1.address, 8285);
      await member.send(udpPacket({ source: '10.5.254.9', destination: pod1.address, ttl: 40 }));
      await member.close();
      await ping(pod1.namespace, pod2.address, { count: 1 });
      assert.equal(await watch.ended(), 0, watch.stderr);
      assert.match(watch.stderr, /captured 5 packets into .*all\.pcapng/);
      assert.equal(statSync(path).mode & 0o777, 0o600);
      const { stdout } = await runCommand('tshark', [
        ...['-n', '-r', path, '-X', `lua_script:${DISSECTOR}`, '-o', 'ip.check_checksum:TRUE', '-T', 'fields'],
        ...['-E', 'separator=|', '-E', 'occurrence=a', '-E', 'aggregator=;'],
        ...['frame.interface_name', 'frame.comment', 'ip.src', 'ip.ttl', 'icmp.type', 'ip.checksum.status'].flatMap(
          (name) => ['-e', name],
        ),
      ]);
      const forwarded = `forwarded to ${node2.address}:8285 by lease ${lease(pod2)}`;
      const delivered = `delivered, from ${node2.address}:8285 by lease ${lease(pod2)}`;
      const spoofed = `dropped: spoofed-source, from ${node2.address}:PORT: the inner source is not one that the sender may use`;
      const expected = [
        `flannel0|dropped: no-lease: no node leases the subnet of the destination|${pod1.address}|63|8|1`,
        `flannel0|dropped: ttl-exceeded: the TTL ran out here|${pod1.address}|1|8|1`,
        `eth0|${spoofed}|${node2.address};10.5.254.9|64;40||1;1`,
        `flannel0|${forwarded}|${pod1.address}|63|8|1`,
        `eth0|${forwarded}|${node1.address};${pod1.address}|64;62|8|1;1`,
        `eth0|${delivered}|${node2.address};${pod2.address}|64;62|0|1;1`,
        `flannel0|${delivered}|${pod2.address}|61|0|1`,
      ];
      // The spoofer's socket has some port or other.
      const lines = stdout
        .trim()
        .replace(/(spoofed-source, from [\d.]+):\d+/, '$1:PORT')
        .split('\n');
      assert.deepEqual(lines.sort(), expected.sort());
    },
  );

  test(
    'a capture holds the packets of super-packets as they are on the wire, sound to the last checksum',
    { skip: !hasTshark },
    async () => {
      const path = join(cluster.folder, 'stream.pcapng');
      const watch = await Watch.start(node1, ['capture', '-w', path, '--direction', 'encap', 'tcp and dst port 5555']);
      const bytes = 1_000_000;
      const outcome = await withTcpServer(pod2.namespace, 5555, () =>
        sendTcp(pod1.namespace, pod2.address, 5555, bytes),
      );
      assert.equal(outcome.received, outcome.sent);
      const only = 'frame.interface_name == "flannel0" && tcp.len > 0';
      const fields = ['tcp.checksum.status', 'frame.len', 'tcp.seq', 'tcp.len'].flatMap((name) => ['-e', name]);
      const readRows = async () => {
        // The end of the file may be half written.
        const { stdout } = await runCommand(
          'tshark',
          ['-n', '-r', path, '-o', 'tcp.check_checksum:TRUE', '-Y', only, '-T', 'fields', ...fields],
          { allowFailure: true },
        );
        const lines = stdout.trim().split('\n');
        return lines.map((line) => line.split('\t'));
      };
      /** How far the stream is there without a gap, whatever was sent twice. */
      const reach = (rows: readonly string[][]): number => {
        const lengthAt = new Map(rows.map(([, , sequence, length]) => [Number(sequence), Number(length)]));
        let next = 1;
        for (let length = lengthAt.get(next); length !== undefined; length = lengthAt.get(next)) next += length;
        return next;
      };
      await until('the capture has every byte', async () => existsSync(path) && reach(await readRows()) === 1 + bytes, {
        evidence: () => watch.stderr,
        everyMs: 500,
      });
      assert.equal(await watch.end(), 0, watch.stderr);
      assert.ok(!watch.stderr.includes('no room'), watch.stderr);
      assert.ok((await readRows()).every(([status, length]) => status === '1' && Number(length) <= 1472));
    },
  );

  test('the last packet of each reason is known though nobody watched', async () => {
    await ping(pod1.namespace, '10.5.254.77', { count: 1, waitSeconds: 0.2 });
    const member = new DatagramSender(node2.namespace, node1.address, 8285);
    await member.send(udpPacket({ source: '10.5.254.9', destination: pod1.address, ttl: 40 }));
    const drops = async () => {
      const { stdout } = await runCommand(FLANNELCTL, [
        ...['drops', '--json', '--interval', '0.1', '--socket', node1.running.controlSocket],
      ]);
      return (JSON.parse(stdout) as { drops: readonly DropLine[] }).drops;
    };
    const last = (reason: string, source: string, destination: string) =>
      until(`the last ${reason}`, async () => {
        const found = (await drops()).find((one) => one.reason === reason)?.last;
        return found?.inner.source === source && found.inner.destination === destination ? found : undefined;
      });
    const toNobody = await last('no-lease', pod1.address, '10.5.254.77');
    assert.deepEqual([toNobody.inner.protocol, toNobody.inner.ttl, toNobody.outer], ['icmp', 63, null]);
    const spoofed = await last('spoofed-source', '10.5.254.9', pod1.address);
    assert.deepEqual(
      [spoofed.inner.sourcePort, spoofed.inner.destinationPort, spoofed.inner.ttl, spoofed.outer],
      [1111, 7777, 40, node2.address],
    );
    assert.ok(spoofed.ageSeconds < 60 && Math.abs(Date.parse(spoofed.time) - Date.now()) < 60_000, spoofed.time);
    await member.close();
  });

  test('what is captured into a pipe is read as it comes', { skip: !hasTshark }, async () => {
    const watch = await Watch.start(node1, ['capture', '-w', '-', '--count', '4', 'icmp'], READ_BY_TSHARK);
    for (let time = 0; time < 2; time++) await ping(pod1.namespace, pod2.address, { count: 1 });
    assert.equal(await watch.ended(), 0, watch.stderr);
    assert.deepEqual(watch.output.toString().trim().split('\n'), ['8', '0', '8', '0']);
  });

  test('one who stalls loses its own records, and harms nobody', async () => {
    // It asks for everything, and never reads.
    const stalled = request({ socketPath: node1.running.controlSocket, path: '/v1/tap', method: 'POST' });
    const answered = once(stalled, 'response');
    stalled.end(JSON.stringify({ packetBytes: 65536, wirePackets: true }));
    const [response] = (await answered) as [{ destroy(): void }];
    const watch = await trace('icmp', '--direction', 'encap');
    const outcome = await withTcpServer(pod2.namespace, 5555, () =>
      sendTcp(pod1.namespace, pod2.address, 5555, 40_000_000),
    );
    assert.equal(outcome.received, outcome.sent);
    const { received } = await ping(pod1.namespace, pod2.address, { count: 5 });
    assert.equal(received, 5);
    await until('the other one sees everything', () => watch.packets.length >= 5);
    assert.ok((await node1.running.status()).backend !== undefined, 'and the agent answers');
    response.destroy();
    assert.equal(await watch.end(), 0);
  });

  test('what cannot be done is refused in one line', async () => {
    const run = (...args: string[]) =>
      runCommand(FLANNELCTL, [...args, `--socket=${node1.running.controlSocket}`], { allowFailure: true });
    const refused: readonly (readonly [readonly string[], number, RegExp])[] = [
      [['trace', 'hst 10.5.2.3'], 2, /^flannelctl: bad filter 'hst 10\.5\.2\.3': .*syntax error/],
      [['trace', '--outer', 'port x'], 2, /^flannelctl: bad filter 'port x'/],
      [['trace', '--reason', 'whim'], 2, /--reason 'whim': expected some of not-ipv4, /],
      [['trace', '--sample', '5'], 2, /1\/1000/],
      [['capture'], 2, /--write/],
      [
        ['capture', '-w', '/nowhere/x.pcapng'],
        1,
        /cannot write the capture \/nowhere\/x\.pcapng: no such file or directory$/,
      ],
      [['capture', '-w', '-', '--rotate', '1M'], 2, /--rotate needs a file/],
      [['capture', '-w', 'x', '--keep', '2'], 2, /--keep needs --rotate/],
    ];
    for (const [args, status, message] of refused) {
      const result = await run(...args);
      assert.equal(result.status, status, args.join(' '));
      assert.match(result.stderr.trim().split('\n').at(-1) ?? '', message);
      assert.equal(result.stdout, '');
    }
  });

  test('one who watches learns that the daemon ends', async () => {
    const watch = await Watch.start(node2, ['trace']);
    await node2.running.stop();
    assert.equal(await watch.ended(), 1);
    assert.match(watch.stderr, /hung up: it is stopping/);
  });
});
