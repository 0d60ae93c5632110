import assert from 'node:assert/strict';
import { Socket } from 'node:net';
import { test } from 'node:test';
import { checkPeers, type Peer } from '../../../src/observe/peer-check.js';

/** A socket that says which descriptor it has, as Node's do. */
function socketOf(fd: number | undefined): Socket {
  return Object.assign(new Socket(), { _handle: fd === undefined ? null : { fd, close: () => undefined } });
}

test('root, the own user and the group may ask, and nobody else', () => {
  const cases: readonly (readonly [
    peer: Peer | undefined,
    groupId: number | undefined,
    refusal: RegExp | undefined,
  ])[] = [
    [{ uid: 0, gid: 0, groups: [] }, undefined, undefined],
    [{ uid: 990, gid: 990, groups: [] }, undefined, undefined],
    [{ uid: 1000, gid: 1000, groups: [0, 990] }, undefined, /uid 1000 may not ask/],
    [{ uid: 1000, gid: 50, groups: [] }, 50, undefined],
    [{ uid: 1000, gid: 1000, groups: [7, 50] }, 50, undefined],
    [{ uid: 1000, gid: 1000, groups: [7] }, 50, /uid 1000 may not ask/],
    [undefined, 50, /does not say who asks/],
  ];
  for (const [peer, groupId, refusal] of cases) {
    const answer = checkPeers(990, groupId, (fd) => (fd === 21 ? peer : undefined))(socketOf(21));
    if (refusal === undefined) assert.equal(answer, undefined);
    else assert.match(answer ?? '', refusal);
  }
});

test('who has no descriptor is nobody', () => {
  const check = checkPeers(0, undefined, () => ({ uid: 0, gid: 0, groups: [] }));
  assert.match(check(socketOf(undefined)) ?? '', /does not say/);
  assert.match(check(socketOf(-1)) ?? '', /does not say/);
});
