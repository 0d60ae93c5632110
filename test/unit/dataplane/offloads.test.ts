import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import { OFFLOADS, OffloadLadder, parseOffloadNames, refusal } from '../../../src/dataplane/offloads.js';
import type { Logger } from '../../../src/log.js';
import { ip } from '../../support/addresses.js';

const { EIO, ENOSYS, ENOPROTOOPT } = constants.errno;

function bitOf(name: string): number {
  return OFFLOADS.find((offload) => offload.name === name)?.bit ?? assert.fail(name);
}

/** A logger that keeps its warnings. */
function keeping(): Logger & { readonly lines: string[] } {
  const lines: string[] = [];
  const nothing = (): void => undefined;
  return { lines, debug: nothing, info: nothing, warn: (line) => void lines.push(line), error: nothing };
}

test('names are read as they are given to --disable-offload', () => {
  assert.deepEqual(parseOffloadNames(''), []);
  assert.deepEqual(parseOffloadNames('udp-gro, tun-tso,udp-gro'), ['tun-tso', 'udp-gro']);
  assert.deepEqual(
    parseOffloadNames('all'),
    OFFLOADS.map(({ name }) => name),
  );
  for (const wrong of ['tso', 'udp-gro,', 'all,udp-gro', 'UDP-GRO']) assert.equal(parseOffloadNames(wrong), undefined);
});

test('every rung has a bit of its own', () => {
  assert.equal(new Set(OFFLOADS.map(({ bit }) => bit)).size, OFFLOADS.length);
  assert.equal(
    OFFLOADS.reduce((sum, { bit }) => sum | bit, 0),
    2 ** OFFLOADS.length - 1,
  );
});

test('a rung is on once it was tried, off with a reason when it is not there, and never tried when it is not wanted', () => {
  const ladder = new OffloadLadder(['udp-gro']);
  assert.equal(ladder.bits, 0);
  assert.equal(ladder.wants('udp-gro'), false);
  ladder.tried('udp-gro');
  ladder.tried('udp-segment');
  ladder.tried('sendmmsg', refusal('sendmmsg', -ENOSYS));
  assert.equal(ladder.bits, bitOf('udp-segment'));
  const status = new Map(ladder.status().map((one) => [one.name, one]));
  assert.deepEqual(status.get('udp-segment'), { name: 'udp-segment', state: 'on', stepDowns: 0 });
  assert.deepEqual(status.get('udp-gro'), {
    name: 'udp-gro',
    state: 'off',
    reason: 'switched off by --disable-offload',
    stepDowns: 0,
  });
  assert.match(status.get('sendmmsg')?.reason ?? '', /^the kernel refuses it \(it came with Linux 3\.0\): .*ENOSYS/);
});

test('steps down are counted each, and said once for each next hop', () => {
  const ladder = new OffloadLadder();
  ladder.tried('udp-segment');
  const logger = keeping();
  const hop = ip('192.168.64.3');
  const bit = bitOf('udp-segment');
  for (const next of [hop, hop, hop + 1]) ladder.stepDown({ bit, errno: EIO, address: next }, logger);
  assert.equal(logger.lines.length, 2);
  assert.match(
    logger.lines[0],
    /^offload udp-segment: the kernel refuses it to 192\.168\.64\.3: .*EIO.*; packets go on without it$/,
  );
  assert.ok(ladder.isOn('udp-segment'), 'other next hops still have it');
  assert.equal(ladder.status().find(({ name }) => name === 'udp-segment')?.stepDowns, 3);

  for (let workers = 0; workers < 2; workers++) ladder.stepDown({ bit, errno: ENOPROTOOPT, address: 0 }, logger);
  assert.equal(logger.lines.length, 3);
  assert.equal(ladder.isOn('udp-segment'), false);
  assert.equal(ladder.bits, 0);
});

test('steps down for more next hops than a log should name are counted, and no longer said', () => {
  const ladder = new OffloadLadder();
  ladder.tried('udp-segment');
  const logger = keeping();
  for (let hop = 1; hop <= 5000; hop++) {
    ladder.stepDown({ bit: bitOf('udp-segment'), errno: EIO, address: hop }, logger);
  }
  assert.equal(logger.lines.length, 1024);
  assert.equal(ladder.status().find(({ name }) => name === 'udp-segment')?.stepDowns, 5000);
});

test('a refusal for one next hop is shown as long as it is remembered, one for good stays', () => {
  let nowMs = 0;
  const ladder = new OffloadLadder([], () => nowMs);
  ladder.tried('udp-segment');
  const logger = keeping();
  const bit = bitOf('udp-segment');
  const shown = (): string | undefined => ladder.status().find(({ name }) => name === 'udp-segment')?.reason;
  const refusedTo = (address: number): void => ladder.stepDown({ bit, errno: EIO, address }, logger);
  refusedTo(ip('192.168.64.3'));
  assert.match(shown() ?? '', /to 192\.168\.64\.3/);
  nowMs += 60_000;
  refusedTo(ip('192.168.64.3'));
  nowMs += 100_000;
  assert.match(shown() ?? '', /to 192\.168\.64\.3/, 'refused again meanwhile');
  nowMs += 20_000;
  assert.equal(shown(), undefined);
  assert.equal(ladder.status().find(({ name }) => name === 'udp-segment')?.stepDowns, 2, 'what was counted stays');
  refusedTo(0);
  refusedTo(ip('192.168.64.4'));
  nowMs += 1e9;
  assert.match(shown() ?? '', /any more: .*EIO/);
});
