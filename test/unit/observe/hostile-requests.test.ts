/** Whatever is asked on the control socket: an answer, or one line on what is wrong with the question. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { UsageError } from '../../../src/errors.js';
import { readPacketQuestion } from '../../../src/observe/explain-question.js';
import { readTapRequest } from '../../../src/observe/tap-request.js';

const RUNS = { numRuns: 2000 };

const FIELDS = ['filter', 'outerFilter', 'direction', 'dropsOnly', 'reasons', 'every', 'packetBytes', 'wirePackets'];
const nearlyRight = fc.dictionary(
  fc.constantFrom(...FIELDS),
  fc.oneof(
    fc.jsonValue(),
    fc.constantFrom('encap', 'decap', true, 128, 65_536, 1, ['no-lease'], [6, 0, 0, 65_535]),
    fc.array(fc.nat(0xffffffff), { maxLength: 24 }),
  ),
);

test('a tap is refused with one line, or asks for what there is', () => {
  const bodies = fc.oneof(
    fc.string(),
    fc.json(),
    nearlyRight.map((fields) => JSON.stringify(fields)),
    nearlyRight.map((fields) => JSON.stringify({ packetBytes: 256, ...fields })),
  );
  fc.assert(
    fc.property(bodies, fc.uint8Array({ maxLength: 80 }), (body, packet) => {
      try {
        const wish = readTapRequest(body);
        assert.ok(wish.every >= 1 && wish.packetBytes >= 128 && wish.packetBytes <= 65_536);
        const bytes = Buffer.from(packet);
        for (const filter of [wish.filter, wish.outerFilter]) {
          assert.equal(typeof (filter?.matches(bytes, bytes.length) ?? true), 'boolean');
        }
      } catch (error) {
        assert.ok(error instanceof UsageError, String(error));
        assert.doesNotMatch(error.message, /\n/);
      }
    }),
    RUNS,
  );
});

test('a question about a packet is refused with one line, or has numbers that a packet can have', () => {
  const values = fc.oneof(fc.string(), fc.ipV4(), fc.integer().map(String));
  const queries = fc.dictionary(fc.constantFrom('source', 'destination', 'protocol', 'ttl', 'sender'), values);
  fc.assert(
    fc.property(queries, (query) => {
      const question = readPacketQuestion(new URLSearchParams(query));
      if (typeof question === 'string') {
        assert.doesNotMatch(question, /\n/);
        return;
      }
      for (const byte of [question.protocol, question.ttl])
        assert.ok(Number.isInteger(byte) && byte >= 0 && byte <= 255);
      for (const one of [question.source, question.destination, question.sender ?? 0]) {
        assert.ok(Number.isInteger(one) && one >= 0 && one <= 0xffffffff);
      }
    }),
    RUNS,
  );
});
