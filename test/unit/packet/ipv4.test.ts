import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { checksum } from '../../../src/packet/checksum.js';
import {
  decrementTtl,
  ipv4Checksum,
  ipv4Destination,
  ipv4DontFragment,
  ipv4HeaderBytes,
  ipv4Protocol,
  ipv4Shape,
  ipv4Source,
  ipv4TotalBytes,
  ipv4Ttl,
  isUnicastHost,
  writeIpv4Header,
} from '../../../src/packet/ipv4.js';
import { parseIpv4 } from '../../../src/packet/address.js';

test('a written header reads back, at any offset, with a correct checksum', () => {
  const u32 = fc.nat({ max: 0xffffffff });
  fc.assert(
    fc.property(
      fc.record({
        totalBytes: fc.integer({ min: 20, max: 65535 }),
        protocol: fc.nat({ max: 255 }),
        source: u32,
        destination: u32,
        ttl: fc.nat({ max: 255 }),
        identification: fc.nat({ max: 65535 }),
        fragmentWord: fc.nat({ max: 65535 }),
      }),
      fc.nat({ max: 50 }),
      (header, offset) => {
        const buffer = Buffer.alloc(offset + 20, 0xaa);
        writeIpv4Header(buffer, offset, header);
        assert.equal(checksum(buffer, offset, 20), 0);
        assert.equal(ipv4HeaderBytes(buffer, offset), 20);
        assert.equal(ipv4TotalBytes(buffer, offset), header.totalBytes);
        assert.equal(ipv4Protocol(buffer, offset), header.protocol);
        assert.equal(ipv4Source(buffer, offset), header.source);
        assert.equal(ipv4Destination(buffer, offset), header.destination);
        assert.equal(ipv4Ttl(buffer, offset), header.ttl);
        assert.equal(ipv4DontFragment(buffer, offset), (header.fragmentWord & 0x4000) !== 0);
      },
    ),
  );
});

test('a TTL decrement leaves the checksum that full recomputation gives', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 20, maxLength: 20 }), fc.integer({ min: 1, max: 255 }), (bytes, ttl) => {
      const buffer = Buffer.from(bytes);
      buffer[0] = 0x45;
      buffer[8] = ttl;
      buffer.writeUInt16BE(0, 10);
      buffer.writeUInt16BE(checksum(buffer, 0, 20), 10);
      decrementTtl(buffer, 0);
      const mended = ipv4Checksum(buffer, 0);
      assert.equal(buffer[8], ttl - 1);
      buffer.writeUInt16BE(0, 10);
      assert.equal(mended, checksum(buffer, 0, 20));
    }),
    { numRuns: 2000 },
  );
});

test('a packet is what its header says, or it is not forwarded', () => {
  const make = (edit: (buffer: Buffer) => void = () => undefined): Buffer => {
    const buffer = Buffer.alloc(40);
    writeIpv4Header(buffer, 0, { totalBytes: 40, protocol: 17, source: 1, destination: 2 });
    edit(buffer);
    return buffer;
  };
  const cases: [string, Buffer, number, string][] = [
    ['whole', make(), 40, 'ok'],
    ['padded by the link', make((b) => b.writeUInt16BE(30, 2)), 40, 'ok'],
    ['empty', make(), 0, 'truncated'],
    ['half a header', make(), 19, 'truncated'],
    ['one byte of payload missing', make(), 39, 'truncated'],
    ['header length below five words', make((b) => (b[0] = 0x44)), 40, 'truncated'],
    ['options beyond the packet', make((b) => (b[0] = 0x4f)), 40, 'truncated'],
    ['total length below the header', make((b) => b.writeUInt16BE(19, 2)), 40, 'truncated'],
    ['IPv6', make((b) => (b[0] = 0x60)), 40, 'not-ipv4'],
    ['version 0', make((b) => (b[0] = 0x05)), 40, 'not-ipv4'],
    ['one byte of IPv6', make((b) => (b[0] = 0x60)), 1, 'not-ipv4'],
  ];
  for (const [name, buffer, available, shape] of cases) assert.equal(ipv4Shape(buffer, 0, available), shape, name);
});

test('which addresses can be one host', () => {
  const hosts = ['1.0.0.0', '10.5.34.0', '126.255.255.255', '128.0.0.1', '169.254.1.1', '223.255.255.255'];
  const others = ['0.0.0.0', '0.1.2.3', '127.0.0.1', '127.255.255.255', '224.0.0.1', '239.255.255.255', '240.0.0.1'];
  for (const text of hosts) assert.equal(isUnicastHost(parseIpv4(text) ?? -1), true, text);
  for (const text of [...others, '255.255.255.255']) assert.equal(isUnicastHost(parseIpv4(text) ?? -1), false, text);
});
