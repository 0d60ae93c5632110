import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { IcmpRateLimiter } from '../../../src/backend/udp/icmp-rate-limit.js';
import { SlowPath } from '../../../src/backend/udp/slow-path.js';
import { StrangerLog } from '../../../src/backend/udp/stranger-log.js';
import { DropReason, DROP_REASONS } from '../../../src/dataplane/drop-reasons.js';
import { silentLogger, type Logger } from '../../../src/log.js';
import { FLAG_DONT_FRAGMENT, ipv4Destination, ipv4Source, writeIpv4Header } from '../../../src/packet/ipv4.js';

const POD = 0x0a050106;
const GATEWAY = 0x0a050100;

function packet(totalBytes: number, fragmentWord = 0): Buffer {
  const buffer = Buffer.alloc(totalBytes, 7);
  writeIpv4Header(buffer, 0, { totalBytes, protocol: 17, source: POD, destination: 0x0a050203, fragmentWord });
  return buffer;
}

function slowPath(logger: Logger = silentLogger): { path: SlowPath; sent: Buffer[] } {
  const sent: Buffer[] = [];
  const path = new SlowPath({
    sourceAddress: GATEWAY,
    send: (answer, done) => {
      sent.push(answer);
      done(true);
    },
    rateLimiter: new IcmpRateLimiter(),
    strangers: new StrangerLog(logger),
    nowMs: () => 0,
  });
  return { path, sent };
}

describe('slow path', () => {
  const answers: [DropReason, number, number, number][] = [
    [DropReason.NoLease, 0, 3, 0],
    [DropReason.TtlExceeded, 0, 11, 0],
    [DropReason.PacketTooBig, 1000, 3, 4],
  ];
  for (const [reason, innerMtuBytes, type, code] of answers) {
    test(`${DROP_REASONS[reason - 1].name}: the source is told, from the overlay device's address`, () => {
      const { path, sent } = slowPath();
      path.handle({ reason, packet: packet(1200, FLAG_DONT_FRAGMENT), senderAddress: 0, innerMtuBytes });
      assert.equal(sent.length, 1);
      assert.deepEqual([...sent[0].subarray(20, 22)], [type, code]);
      assert.equal(ipv4Source(sent[0], 0), GATEWAY);
      assert.equal(ipv4Destination(sent[0], 0), POD);
      if (reason === DropReason.PacketTooBig) assert.equal(sent[0].readUInt16BE(26), innerMtuBytes);
      assert.equal(path.icmpErrorsSent, 1);
    });
  }

  test('every other reason answers nothing', () => {
    const { path, sent } = slowPath();
    for (const { reason } of DROP_REASONS) {
      if (answers.some(([answered]) => answered === reason)) continue;
      path.handle({ reason, packet: packet(100), senderAddress: 9, innerMtuBytes: 0 });
    }
    assert.deepEqual(sent, []);
  });

  test('a packet that may be fragmented is cut to the path and sent on, and nobody is told', () => {
    const { path, sent } = slowPath();
    path.handle({ reason: DropReason.PacketTooBig, packet: packet(1200), senderAddress: 0, innerMtuBytes: 700 });
    assert.deepEqual(
      sent.map((fragment) => fragment.length),
      [20 + 680, 20 + 500],
    );
    assert.equal(ipv4Destination(sent[1], 0), 0x0a050203);
    assert.equal(path.icmpErrorsSent, 0);
  });

  test('a packet that fits the path after all is not sent round in a circle', () => {
    const { path, sent } = slowPath();
    path.handle({ reason: DropReason.PacketTooBig, packet: packet(700), senderAddress: 0, innerMtuBytes: 700 });
    path.handle({ reason: DropReason.PacketTooBig, packet: packet(700), senderAddress: 0, innerMtuBytes: 0 });
    assert.deepEqual(sent, []);
  });

  test('a packet that was kept only in part is quoted, but never sent on', () => {
    const { path, sent } = slowPath();
    const part = packet(1400).subarray(0, 128);
    path.handle({ reason: DropReason.PacketTooBig, packet: part, senderAddress: 0, innerMtuBytes: 700 });
    assert.equal(sent.length, 0);
    path.handle({ reason: DropReason.NoLease, packet: part, senderAddress: 0, innerMtuBytes: 0 });
    assert.equal(sent[0].length, 28 + 128);
    const forbidden = packet(1400, FLAG_DONT_FRAGMENT).subarray(0, 576);
    path.handle({ reason: DropReason.PacketTooBig, packet: forbidden, senderAddress: 0, innerMtuBytes: 700 });
    assert.equal(sent[1].readUInt16BE(26), 700);
    assert.equal(sent.length, 2);
  });

  test('errors beyond the limit are counted, not sent', () => {
    const { path, sent } = slowPath();
    for (let index = 0; index < 10; index++) {
      path.handle({ reason: DropReason.NoLease, packet: packet(100), senderAddress: 0, innerMtuBytes: 0 });
    }
    assert.equal(sent.length, 6);
    assert.equal(path.icmpErrorsSent, 6);
    assert.equal(path.icmpErrorsRateLimited, 4);
  });

  test('garbage is survived', () => {
    const { path, sent } = slowPath();
    for (const bytes of [
      Buffer.alloc(0),
      Buffer.alloc(5, 0x45),
      Buffer.alloc(40, 0xff),
      Buffer.from('4f', 'hex'),
      Buffer.alloc(40, 0x4f),
    ]) {
      for (const { reason } of DROP_REASONS) {
        path.handle({ reason, packet: bytes, senderAddress: 0, innerMtuBytes: 576 });
      }
    }
    assert.deepEqual(sent, []);
  });
});

describe('strangers', () => {
  function recorder(): { lines: string[]; logger: Logger } {
    const lines: string[] = [];
    return { lines, logger: { ...silentLogger, warn: (message) => void lines.push(message) } };
  }

  test('are named once, with the flag that admits them, and again after a while', () => {
    const { lines, logger } = recorder();
    const strangers = new StrangerLog(logger, { repeatAfterMs: 1000, maxAddresses: 10 });
    for (let nowMs = 0; nowMs < 1000; nowMs += 100) strangers.dropped(0xc0a80009, nowMs);
    assert.equal(lines.length, 1);
    assert.match(lines[0], /192\.168\.0\.9 .*--trusted-source 192\.168\.0\.9\/32/);
    strangers.dropped(0xc0a80009, 1000);
    assert.equal(lines.length, 2);
  });

  test('a flood of forged senders fills neither the log nor memory', () => {
    const { lines, logger } = recorder();
    const strangers = new StrangerLog(logger, { repeatAfterMs: 1000, maxAddresses: 10 });
    for (let sender = 1; sender <= 10_000; sender++) strangers.dropped(sender, 5);
    assert.equal(lines.length, 11);
    assert.match(lines[10], /many more/);
    strangers.dropped(99_999, 2000);
    assert.equal(lines.length, 12);
  });
});
