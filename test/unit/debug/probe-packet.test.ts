/** The packets of a probe: built as their protocols have it, and recognised, they and what answers them, among all others. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { PacketCall } from '../../../src/debug/probe/probe-call.js';
import { buildProbePacket, recognise } from '../../../src/debug/probe/probe-packet.js';
import { checksum, checksumAdd, checksumFinish } from '../../../src/packet/checksum.js';
import { buildIcmpError } from '../../../src/packet/icmp.js';
import { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, ipv4Shape, writeIpv4Header } from '../../../src/packet/ipv4.js';
import { ip } from '../../support/addresses.js';

const SOURCE = ip('10.244.0.1');
const DESTINATION = ip('10.244.1.2');

function callOf(protocol: PacketCall['protocol'], changes: Partial<PacketCall> = {}): PacketCall {
  return {
    kind: 'packet',
    node: ip('192.168.64.11'),
    protocol,
    source: SOURCE,
    destination: DESTINATION,
    nextHop: ip('192.168.64.12'),
    port: protocol === PROTOCOL_ICMP ? 0 : 80,
    firstPort: 40_000,
    firstIdentification: 500,
    packets: 3,
    ...changes,
  };
}

const CALLS = [PROTOCOL_ICMP, PROTOCOL_UDP, PROTOCOL_TCP].map((protocol) => callOf(protocol as PacketCall['protocol']));
const build = (call: PacketCall, index: number, totalBytes = 84): Buffer =>
  buildProbePacket(call, index, { totalBytes, dontFragment: false });

/** The answer to a packet with ports: both ends exchanged. */
function answered(packet: Buffer, change: (answer: Buffer) => void = () => undefined): Buffer {
  const answer = Buffer.from(packet);
  packet.copy(answer, 12, 16, 20);
  packet.copy(answer, 16, 12, 16);
  packet.copy(answer, 20, 22, 24);
  packet.copy(answer, 22, 20, 22);
  answer.writeUInt16BE(0, 4);
  change(answer);
  return answer;
}

test('packets are well-formed, with right checksums, at any size', () => {
  for (const call of CALLS) {
    for (const size of [40, 41, 84, 1472, 3000]) {
      const packet = build(call, 1, size);
      assert.equal(packet.length, size);
      assert.equal(ipv4Shape(packet, 0, packet.length), 'ok');
      assert.equal(checksum(packet, 0, 20), 0);
      const pseudo = call.protocol === PROTOCOL_ICMP ? 0 : checksumAdd(packet, 12, 8, call.protocol + size - 20);
      assert.equal(checksumFinish(checksumAdd(packet, 20, size - 20, pseudo)), 0, `protocol ${call.protocol}`);
    }
  }
});

test('each packet of a call is recognised by its number, and no other is', () => {
  for (const call of CALLS) {
    for (const index of [0, 1, 2]) {
      const found = recognise(call, build(call, index));
      assert.deepEqual([found?.packet, found?.answer], [index, undefined]);
    }
    assert.equal(recognise(call, build({ ...call, packets: 9 }, 3)), undefined, 'beyond the last');
    assert.equal(recognise(call, build({ ...call, firstIdentification: 600 }, 0)), undefined, 'another identification');
    assert.equal(recognise(call, build({ ...call, firstPort: 40_001 }, 0)), undefined, 'another port or identifier');
    assert.equal(recognise(call, build({ ...call, source: SOURCE + 1 }, 0)), undefined, 'another source');
    assert.equal(
      recognise(call, build({ ...call, destination: DESTINATION + 1 }, 0)),
      undefined,
      'another destination',
    );
    const later = build(call, 0);
    later.writeUInt16BE(8, 6);
    assert.equal(recognise(call, later), undefined, 'a later fragment');
  }
});

describe('answers', () => {
  const [icmp, udp, tcp] = CALLS;

  test('of the destination itself', () => {
    const echo = answered(build(icmp, 2), (answer) => {
      answer[20] = 0;
      answer.writeUInt16BE(icmp.firstPort, 24);
      answer.writeUInt16BE(2, 26);
    });
    assert.deepEqual(recognise(icmp, echo), { packet: 2, answer: 'echo-reply', from: DESTINATION });
    assert.deepEqual(recognise(udp, answered(build(udp, 1))), { packet: 1, answer: 'udp-reply', from: DESTINATION });
    const flagged = (flags: number): string | undefined =>
      recognise(
        tcp,
        answered(build(tcp, 1), (answer) => (answer[33] = flags)),
      )?.answer;
    assert.equal(flagged(0x12), 'syn-ack');
    assert.equal(flagged(0x14), 'rst');
    assert.equal(flagged(0x10), undefined, 'a bare ACK answers no SYN');
  });

  test('ICMP errors about the packet, each by what it says and who says it', () => {
    const said = (code: number, from: number, type = 3): string | undefined => {
      const error = buildIcmpError(build(udp, 1), 0, { kind: 'net-unreachable' }, from);
      error[20] = type;
      error[21] = code;
      return recognise(udp, error)?.answer;
    };
    const router = ip('10.244.1.0');
    assert.equal(said(3, DESTINATION), 'port-unreachable');
    assert.equal(said(3, router), 'rejected', 'a firewall that speaks like the pod');
    assert.equal(said(2, DESTINATION), 'protocol-unreachable');
    assert.equal(said(13, router), 'rejected');
    assert.equal(said(1, router), 'host-unreachable');
    assert.equal(said(0, router), 'net-unreachable');
    assert.equal(said(4, router), 'fragmentation-needed');
    assert.equal(said(0, router, 11), 'ttl-exceeded');
    assert.equal(said(0, router, 5), undefined, 'a redirect is no answer');
    const stranger = buildIcmpError(build({ ...udp, firstPort: 50_000 }, 1), 0, { kind: 'net-unreachable' }, router);
    assert.equal(recognise(udp, stranger), undefined);
  });

  test('nothing that is cut short or made up is more than not recognised', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(...CALLS), fc.boolean(), (bytes, call, back) => {
        const packet = Buffer.from(bytes);
        if (packet.length >= 20) {
          const [source, destination] = back ? [call.destination, call.source] : [call.source, call.destination];
          const totalBytes = packet.length;
          writeIpv4Header(packet, 0, {
            totalBytes,
            protocol: bytes[9] % 2 === 0 ? 1 : call.protocol,
            source,
            destination,
          });
          packet[0] = 0x40 | (bytes[0] & 0x0f);
        }
        const found = recognise(call, packet);
        if (found !== undefined) assert.ok(found.packet >= 0 && found.packet < call.packets);
      }),
      { numRuns: 5000 },
    );
    for (const call of CALLS) {
      const whole = buildIcmpError(build(call, 0), 0, { kind: 'time-exceeded' }, DESTINATION);
      for (let length = 0; length < whole.length; length++) recognise(call, whole.subarray(0, length));
    }
  });
});
