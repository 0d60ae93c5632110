import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CaptureWriter, numberedFiles } from '../../../src/debug/capture/capture-file.js';
import { captureInterfaces, capturedPackets } from '../../../src/debug/capture/captured-packets.js';
import { DROP_REASONS, DropReason } from '../../../src/dataplane/drop-reasons.js';
import { FlannelError } from '../../../src/errors.js';
import { runCommand } from '../../../src/host/command.js';
import type { TapEvent, TapHello } from '../../../src/observe/tap-protocol.js';
import { parsePrefix } from '../../../src/packet/address.js';
import { udpPacket } from '../../harness/inner-packet.js';
import { ip } from '../../support/addresses.js';

const DISSECTOR = fileURLToPath(new URL('../../../../deploy/flannel-udp.lua', import.meta.url));
const hasTshark = await runCommand('tshark', ['--version'], { allowFailure: true }).then(
  () => true,
  () => false,
);
const skip = hasTshark ? false : 'no tshark here';

const hello: TapHello = {
  node: '192.168.64.1',
  device: 'flannel0',
  externalInterface: 'eth0',
  tunnelEnd: { address: ip('192.168.64.1'), port: 8285 },
  reasons: [{ name: '', description: '' }, ...DROP_REASONS],
};
const settings = { snapBytes: 65536, filter: 'udp port 7777' };
/** 2026-11-21 12:00:00 UTC. */
const NOON_NS = 1_795_262_400_000_000_000n;

function event(changes: Partial<TapEvent> = {}): TapEvent {
  const packet = changes.packet ?? udpPacket({ source: '10.5.1.6', destination: '10.5.2.7', payload: 'to the pod' });
  return {
    timeNs: NOON_NS + 123_456_789n,
    direction: 'encap',
    queue: 0,
    reason: 0,
    error: 0,
    underlayAddress: ip('192.168.64.2'),
    underlayPort: 8285,
    lease: parsePrefix('10.5.2.0/24'),
    lengthBytes: packet.length,
    segments: 1,
    segment: -1,
    batchPackets: 1,
    merged: 1,
    every: 1,
    packet,
    ...changes,
  };
}

/** As tshark prints the direction in epb_flags. */
const INBOUND = '0x00000001';
const OUTBOUND = '0x00000002';

const EVENTS: readonly TapEvent[] = [
  event(),
  event({
    direction: 'decap',
    timeNs: NOON_NS + 200_000_000n,
    packet: udpPacket({ source: '10.5.2.7', destination: '10.5.1.6', ttl: 61 }),
  }),
  event({ reason: DropReason.NoLease, underlayAddress: 0, underlayPort: 0, lease: undefined }),
  event({
    direction: 'decap',
    reason: DropReason.SpoofedSource,
    packet: udpPacket({ source: '10.5.9.9', destination: '10.5.1.6', ttl: 33 }),
  }),
];

describe('captures', () => {
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'flannel-capture-test-'));
    path = join(folder, 'capture.pcapng');
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  function capture(
    events: readonly TapEvent[],
    changes: { snapBytes?: number; maxFileBytes?: number; keep?: number } = {},
  ) {
    const { snapBytes = settings.snapBytes, maxFileBytes, keep } = changes;
    const chosen = { ...settings, snapBytes };
    const writer = new CaptureWriter(captureInterfaces(hello, chosen), numberedFiles(path, keep), maxFileBytes);
    for (const one of events) writer.write(capturedPackets(one, hello, chosen));
    return writer;
  }

  /** Values of fields as tshark reads them, an array a packet. */
  async function fields(names: readonly string[], ...options: string[]): Promise<string[][]> {
    const wanted = names.flatMap((name) => ['-e', name]);
    const { stdout } = await runCommand('tshark', [
      ...['-n', '-r', path, '-T', 'fields', '-E', 'separator=|', '-E', 'occurrence=a', '-E', 'aggregator=;'],
      ...options,
      ...wanted,
    ]);
    return stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.split('|'));
  }

  test('tshark reads both sides of each packet, with direction, time and comment', { skip }, async () => {
    capture(EVENTS).close();
    const forwarded = 'forwarded to 192.168.64.2:8285 by lease 10.5.2.0/24';
    const delivered = 'delivered, from 192.168.64.2:8285 by lease 10.5.2.0/24';
    const spoofed =
      'dropped: spoofed-source, from 192.168.64.2:8285: the inner source is not one that the sender may use';
    const noLease = 'dropped: no-lease: no node leases the subnet of the destination';
    assert.deepEqual(
      await fields(
        [
          ...['frame.interface_name', 'frame.packet_flags_direction', 'frame.comment', 'frame.time_epoch'],
          ...['ip.src', 'ip.dst', 'ip.ttl', 'udp.dstport', 'ip.checksum.status'],
        ],
        '-o',
        'ip.check_checksum:TRUE',
      ),
      [
        ['flannel0', OUTBOUND, forwarded, '1795262400.123456789', '10.5.1.6', '10.5.2.7', '64', '7777', '1'],
        ['eth0', OUTBOUND, forwarded, '1795262400.123456789', '192.168.64.1', '192.168.64.2', '64', '8285', '1'],
        ['eth0', INBOUND, delivered, '1795262400.200000000', '192.168.64.2', '192.168.64.1', '64', '8285', '1'],
        ['flannel0', INBOUND, delivered, '1795262400.200000000', '10.5.2.7', '10.5.1.6', '60', '7777', '1'],
        ['flannel0', OUTBOUND, noLease, '1795262400.123456789', '10.5.1.6', '10.5.2.7', '64', '7777', '1'],
        ['eth0', INBOUND, spoofed, '1795262400.123456789', '192.168.64.2', '192.168.64.1', '64', '8285', '1'],
      ],
    );
  });

  test('with the dissector, tshark shows the packet inside a datagram', { skip }, async () => {
    capture(EVENTS).close();
    const inside = await fields(
      ['ip.src', 'ip.ttl', 'udp.dstport', 'flannel_udp.length', 'data.text', 'ip.checksum.status'],
      ...['-X', `lua_script:${DISSECTOR}`, '-Y', 'flannel_udp', '-o', 'data.show_as_text:TRUE'],
      ...['-o', 'ip.check_checksum:TRUE'],
    );
    assert.deepEqual(inside, [
      ['192.168.64.1;10.5.1.6', '64;63', '8285;7777', '38', 'to the pod', '1;1'],
      ['192.168.64.2;10.5.2.7', '64;61', '8285;7777', '33', 'hello', '1;1'],
      ['192.168.64.2;10.5.9.9', '64;33', '8285;7777', '33', 'hello', '1;1'],
    ]);
    const filtered = await fields(
      ['ip.dst'],
      '-X',
      `lua_script:${DISSECTOR}`,
      '-Y',
      'flannel_udp && ip.addr == 10.5.9.9',
    );
    assert.deepEqual(filtered, [['192.168.64.1;10.5.1.6']]);
  });

  test('the dissector names what is no packet, and follows the port of the preferences', { skip }, async () => {
    const strange = event({
      direction: 'decap',
      reason: DropReason.NotIpv4,
      packet: Buffer.from('hello, who is there?'),
    });
    capture([strange, event({ underlayPort: 9000, direction: 'decap', reason: DropReason.UnknownSender })]).close();
    const lua = ['-X', `lua_script:${DISSECTOR}`];
    const [[payload, message]] = await fields(
      ['flannel_udp.payload', '_ws.expert.message'],
      ...[...lua, '-Y', 'flannel_udp.not_ipv4'],
    );
    assert.equal(payload, Buffer.from('hello, who is there?').toString('hex'));
    assert.match(message, /The tunnel carries nothing but IPv4/);
    const elsewhere = [...lua, '-o', 'flannel_udp.port:9000', '-Y', 'flannel_udp && ip.src == 10.5.1.6'];
    assert.equal((await fields(['ip.src'], ...elsewhere)).length, 1);
    const usual = [...lua, '-o', 'flannel_udp.port:9001', '-Y', 'flannel_udp'];
    assert.deepEqual(await fields(['ip.src'], ...usual), []);
  });

  test('capinfos finds two interfaces, the filter, nanoseconds and the counts', { skip }, async () => {
    const writer = capture(EVENTS);
    writer.lost(5);
    writer.close();
    const { stdout } = await runCommand('capinfos', [path]);
    for (const fact of [
      /File type: +Wireshark\/\.\.\. - pcapng/,
      /Number of packets: +6/,
      /Number of interfaces in file: 2/,
      /Name = flannel0/,
      /Name = eth0/,
      /Encapsulation = Raw IP/,
      /Capture length = 65536/,
      /Time precision = nanoseconds \(9\)/,
      /Filter string = udp port 7777/,
      /Capture application: +flannelctl /,
    ]) {
      assert.match(stdout, fact);
    }
    const statistics = readFileSync(path).subarray(-2 * 52);
    assert.deepEqual([statistics.readUInt32LE(0), statistics.readUInt32LE(4)], [5, 52], 'the last blocks');
  });

  test('a packet longer than the snap length keeps its length, not its bytes', { skip }, async () => {
    const packet = udpPacket({ source: '10.5.1.6', destination: '10.5.2.7', payload: 'x'.repeat(1000) });
    capture([event({ packet })], { snapBytes: 64 }).close();
    assert.deepEqual(await fields(['frame.len', 'frame.cap_len']), [
      ['1028', '64'],
      ['1056', '64'],
    ]);
  });

  test('segments of a super-packet say which they are', { skip }, async () => {
    capture([event({ segments: 45, segment: 2 })]).close();
    const [[comment]] = await fields(['frame.comment']);
    assert.match(comment, /^forwarded to .*; packet 3 of 45 that a super-packet was cut into$/);
  });

  test('a capture that has become large goes on in another file, and keeps the latest', { skip }, async () => {
    const events = Array.from({ length: 40 }, () => event());
    capture(events, { maxFileBytes: 1500, keep: 2 }).close();
    const files = readdirSync(folder).sort();
    assert.equal(files.length, 2);
    assert.ok(
      files.every((name) => /^capture-\d+\.pcapng$/.test(name)),
      files.join(),
    );
    const latest = Math.max(...files.map((name) => Number(/-(\d+)/.exec(name)?.[1])));
    assert.ok(existsSync(join(folder, `capture-${latest - 1}.pcapng`)));
    for (const name of files) {
      const { stdout } = await runCommand('tshark', ['-r', join(folder, name)]);
      assert.ok(stdout.trim().split('\n').length >= 2, 'each is a whole capture');
    }
  });

  test('a capture that cannot be written is refused in one line', () => {
    writeFileSync(join(folder, 'file'), '');
    assert.throws(
      () => numberedFiles(join(folder, 'file', 'x.pcapng'))(1),
      (error) =>
        error instanceof FlannelError &&
        /^cannot write the capture .*file\/x\.pcapng: not a directory$/.test(error.message),
    );
  });
});
