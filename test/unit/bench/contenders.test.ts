import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { agentWithout, ladderRungs } from '../../../bench/contenders/ladder.js';
import { peerContender } from '../../../bench/contenders/peers.js';
import { OFFLOADS } from '../../../src/dataplane/offloads.js';
import { UsageError } from '../../../src/errors.js';

const noStore = () => Promise.reject(new Error('no store is needed here'));

/** What a rung's agent has to do without. */
function lacking(flags: readonly string[] = []): string[] {
  const [flag] = flags;
  assert.ok(flag.startsWith('--disable-offload='));
  return flag.slice('--disable-offload='.length).split(',');
}

test('each rung of the ladder lacks what the one above lacks, and more; the last has nothing left', () => {
  const rungs = ladderRungs().map(({ name, flags }) => ({ name, missing: lacking(flags) }));
  for (const [index, { missing }] of rungs.entries()) {
    const above = index === 0 ? [] : rungs[index - 1].missing;
    assert.ok(above.every((name) => missing.includes(name)));
    assert.ok(missing.length > above.length);
  }
  assert.deepEqual(
    rungs[rungs.length - 1].missing,
    OFFLOADS.map(({ name }) => name),
  );
  const of = (name: string) => rungs.find((rung) => rung.name === name)?.missing;
  assert.deepEqual(of('flannelette-before-4.18'), ['tun-uso', 'udp-segment', 'udp-gro']);
  assert.ok(!of('flannelette-before-2.6.33')?.includes('tun-tso'));
});

test('an agent without some offloads is told so', () => {
  const { name, flags } = agentWithout(['udp-gro', 'sendmmsg']);
  assert.equal(name, 'flannelette-without-udp-gro+sendmmsg');
  assert.deepEqual(lacking(flags), ['udp-gro', 'sendmmsg']);
});

test('a peer is the program of the path, or that of its name in PATH, and never our own', () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'bench-peers-')));
  const { PATH } = process.env;
  try {
    const program = join(folder, 'flanneld');
    writeFileSync(program, '#!/bin/sh\n');
    assert.throws(() => peerContender({ name: 'flanneld', path: program }, noStore), UsageError);
    chmodSync(program, 0o755);
    assert.equal(peerContender({ name: 'flanneld', path: program }, noStore).name, 'flannel');
    process.env.PATH = folder;
    assert.equal(peerContender({ name: 'flanneld' }, noStore).name, 'flannel');
    assert.throws(
      () => peerContender({ name: 'wireguard-go', path: join(folder, 'none') }, noStore),
      /no such program/,
    );
    process.env.PATH = new URL('../../../../bin', import.meta.url).pathname;
    assert.throws(() => peerContender({ name: 'flanneld' }, noStore), /this project's own/);
  } finally {
    process.env.PATH = PATH;
    rmSync(folder, { recursive: true });
  }
});
