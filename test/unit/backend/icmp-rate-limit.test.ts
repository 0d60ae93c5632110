import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IcmpRateLimiter, LINUX_ICMP_RATE_LIMITS } from '../../../src/backend/udp/icmp-rate-limit.js';

function count(limiter: IcmpRateLimiter, times: number, destination: number, nowMs: number, pathMtu = false): number {
  let allowed = 0;
  for (let index = 0; index < times; index++) if (limiter.allow(destination, nowMs, pathMtu)) allowed++;
  return allowed;
}

test('one destination: a burst of six, then one a second', () => {
  const limiter = new IcmpRateLimiter();
  assert.equal(count(limiter, 20, 1, 0), 6);
  assert.equal(count(limiter, 20, 1, 999), 0);
  assert.equal(count(limiter, 20, 1, 1000), 1);
  assert.equal(count(limiter, 20, 1, 3500), 2);
  assert.equal(count(limiter, 20, 1, 60_000), 6);
});

test('all destinations together: a burst of 50, then 1000 a second', () => {
  const limiter = new IcmpRateLimiter();
  let allowed = 0;
  for (let destination = 1; destination <= 200; destination++) allowed += count(limiter, 1, destination, 0);
  assert.equal(allowed, 50);
  assert.equal(count(limiter, 1, 300, 1), 1);
  assert.equal(count(limiter, 1, 301, 1), 0);
});

test('path MTU discovery is held back by the common limit only', () => {
  const limiter = new IcmpRateLimiter();
  assert.equal(count(limiter, 100, 1, 0, true), 50);
  assert.equal(count(limiter, 100, 1, 10, true), 10);
});

test('what the common limit refuses costs the destination nothing', () => {
  const limiter = new IcmpRateLimiter();
  count(limiter, 50, 9, 0, true);
  assert.equal(count(limiter, 5, 1, 0), 0);
  assert.equal(count(limiter, 20, 1, 1000), 6);
});

test('memory is bounded: the destination that was quiet longest is forgotten first', () => {
  const limiter = new IcmpRateLimiter({ ...LINUX_ICMP_RATE_LIMITS, globalBurst: 1e6, maxDestinations: 2 });
  count(limiter, 6, 1, 0);
  count(limiter, 6, 2, 0);
  count(limiter, 1, 1, 0);
  count(limiter, 6, 3, 0);
  assert.equal(count(limiter, 6, 1, 0), 0, 'used last, still known');
  assert.equal(count(limiter, 6, 2, 0), 6, 'forgotten');
});
