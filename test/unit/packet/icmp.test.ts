import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { checksum } from '../../../src/packet/checksum.js';
import { buildIcmpError, mayAnswerWithError, type IcmpError } from '../../../src/packet/icmp.js';
import { ipv4Destination, ipv4Shape, ipv4Source, writeIpv4Header } from '../../../src/packet/ipv4.js';
import { ip } from '../../support/addresses.js';

const POD = ip('10.5.1.6');
const GATEWAY = ip('10.5.1.0');

interface Shape {
  source?: number;
  destination?: number;
  protocol?: number;
  fragmentWord?: number;
  payload?: Buffer;
  typeOfService?: number;
}

function packet(shape: Shape = {}): Buffer {
  const payload = shape.payload ?? Buffer.from('8badf00d', 'hex');
  const buffer = Buffer.concat([Buffer.alloc(20), payload]);
  writeIpv4Header(buffer, 0, {
    totalBytes: buffer.length,
    source: shape.source ?? POD,
    destination: shape.destination ?? ip('10.5.9.9'),
    protocol: shape.protocol ?? 17,
    fragmentWord: shape.fragmentWord,
    typeOfService: shape.typeOfService,
  });
  return buffer;
}

describe('whether an error may be sent', () => {
  const cases: [string, Shape, boolean][] = [
    ['a UDP packet', {}, true],
    ['a TCP packet that forbids fragments', { protocol: 6, fragmentWord: 0x4000 }, true],
    ['an echo request', { protocol: 1, payload: Buffer.from([8, 0, 0, 0]) }, true],
    ['an echo reply', { protocol: 1, payload: Buffer.from([0, 0, 0, 0]) }, true],
    ['a timestamp request', { protocol: 1, payload: Buffer.from([13, 0]) }, true],
    ['unreachable', { protocol: 1, payload: Buffer.from([3, 0]) }, false],
    ['source quench', { protocol: 1, payload: Buffer.from([4, 0]) }, false],
    ['redirect', { protocol: 1, payload: Buffer.from([5, 0]) }, false],
    ['time exceeded', { protocol: 1, payload: Buffer.from([11, 0]) }, false],
    ['parameter problem', { protocol: 1, payload: Buffer.from([12, 0]) }, false],
    ['an unknown ICMP type', { protocol: 1, payload: Buffer.from([200, 0]) }, false],
    ['ICMP without a type', { protocol: 1, payload: Buffer.alloc(0) }, false],
    ['the first of several fragments', { fragmentWord: 0x2000 }, true],
    ['a later fragment', { fragmentWord: 0x2001 }, false],
    ['the last fragment', { fragmentWord: 0x0010 }, false],
    ['to a multicast address', { destination: ip('224.0.0.251') }, false],
    ['to the broadcast address', { destination: ip('255.255.255.255') }, false],
    ['from nobody', { source: 0 }, false],
    ['from loopback', { source: ip('127.0.0.1') }, false],
    ['from a multicast address', { source: ip('239.1.2.3') }, false],
    ['from the broadcast address', { source: 0xffffffff }, false],
  ];
  for (const [name, shape, allowed] of cases) {
    test(`${name}: ${allowed ? 'yes' : 'never'}`, () => {
      assert.equal(mayAnswerWithError(packet(shape), 0), allowed);
    });
  }

  test('an error is never answered by an error', () => {
    const error = buildIcmpError(packet(), 0, { kind: 'net-unreachable' }, GATEWAY);
    assert.equal(mayAnswerWithError(error, 0), false);
  });
});

describe('what an error looks like', () => {
  const errors: [IcmpError, string][] = [
    [{ kind: 'net-unreachable' }, '030000000000'],
    [{ kind: 'time-exceeded' }, '0b0000000000'],
    [{ kind: 'fragmentation-needed', nextHopMtuBytes: 1372 }, '03040000055c'],
  ];
  for (const [error, expected] of errors) {
    test(`${error.kind}: type, code and the last word, from the gateway to the source`, () => {
      const answer = buildIcmpError(packet({ typeOfService: 0x08 }), 0, error, GATEWAY);
      assert.equal(Buffer.concat([answer.subarray(20, 22), answer.subarray(24, 28)]).toString('hex'), expected);
      assert.equal(ipv4Source(answer, 0), GATEWAY);
      assert.equal(ipv4Destination(answer, 0), POD);
      assert.equal(answer[1], 0xc8, 'internetwork control, and the type of service of the packet');
      assert.equal(answer[9], 1);
    });
  }

  test('well formed, at most 576 bytes, and quotes the packet from its first byte', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1500 }), fc.nat({ max: 30 }), (payload, offset) => {
        const original = packet({ payload: Buffer.from(payload) });
        const arena = Buffer.concat([Buffer.alloc(offset, 0xee), original, Buffer.alloc(7, 0xee)]);
        const answer = buildIcmpError(arena, offset, { kind: 'time-exceeded' }, GATEWAY);
        assert.equal(ipv4Shape(answer, 0, answer.length), 'ok');
        assert.equal(answer.length, Math.min(576, 28 + original.length));
        assert.equal(checksum(answer, 0, 20), 0);
        assert.equal(checksum(answer, 20, answer.length - 20), 0);
        assert.deepEqual(answer.subarray(28), original.subarray(0, answer.length - 28));
      }),
    );
  });
});
