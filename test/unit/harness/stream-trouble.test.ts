import assert from 'node:assert/strict';
import { test } from 'node:test';
import { streamTrouble } from '../../harness/paced-traffic.js';

test('a TCP stream that is not intact says whether its bytes were wrong or its connection ended', () => {
  assert.equal(streamTrouble({ sent: 'a1', received: 'a1' }), undefined);
  assert.equal(streamTrouble({ sent: 'a1', received: 'b2' }), 'other bytes arrived than were sent');
  assert.equal(streamTrouble({ sent: 'a1', received: '' }), 'its connection was closed by the receiver');
  assert.equal(streamTrouble({ error: 'read ECONNRESET' }), 'its connection broke: read ECONNRESET');
  assert.equal(streamTrouble(undefined), 'its sender ended without a word');
});
