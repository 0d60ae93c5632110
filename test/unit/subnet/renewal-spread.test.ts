import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../../../src/clock.js';
import { silentLogger } from '../../../src/log.js';
import { createSubnetManagerOn } from '../../../src/subnet/etcd/etcd-subnet-manager.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config.js';
import { Chance } from '../../simulation/chance.js';
import { ModelConnection } from '../../simulation/model-connection.js';
import { ModelEtcd } from '../../simulation/model-etcd.js';
import { Timeline } from '../../simulation/timeline.js';

const NODES = 40;
const TTL_SECONDS = 7_200;
const MARGIN_SECONDS = 3_600;
const MINUTE_MS = 60_000;

test('nodes that started together renew apart, and none later than its margin', async () => {
  const timeline = new Timeline();
  const clock: Clock = {
    now: () => timeline.now,
    elapsed: () => timeline.now,
    after: (delayMs, call) => timeline.after(delayMs, call),
  };
  const etcd = new ModelEtcd(timeline, () => undefined);
  const config = parseNetworkConfig('{"Network":"10.5.0.0/16"}', { backendTypes: ['udp'] });
  const abort = new AbortController();
  const renewedAtMs: number[] = [];
  for (let number = 0; number < NODES; number++) {
    const chance = new Chance(number + 1);
    const way = { state: 'open', lossProbability: 0, stallProbability: 0 } as const;
    const connection = new ModelConnection({ actor: `node${number}`, clock, timeline, etcd, chance, way });
    const manager = createSubnetManagerOn(connection, {
      prefix: '/p',
      backendTypes: ['udp'],
      logger: silentLogger,
      ttlSeconds: TTL_SECONDS,
      random: chance.next,
    });
    const request = { publicIp: 0xc0a84001 + number, publicIpv6: null, backendType: '' };
    const acquired = manager.acquireLease(config, request, abort.signal);
    let lease: Awaited<typeof acquired> | undefined;
    void acquired.then((taken) => (lease = taken));
    while (lease === undefined) await timeline.step();
    let renewed = false;
    const watcher = {
      renewed() {
        if (!renewed) renewedAtMs.push(timeline.now);
        renewed = true;
      },
      trouble: (reason: string) => assert.fail(reason),
      expired: () => assert.fail('it has expired'),
      missing: (reason: string) => assert.fail(reason),
      addressShared: (reason: string) => assert.fail(reason),
      lost: (reason: string) => assert.fail(reason),
    };
    void manager.keepLease(lease, MARGIN_SECONDS, watcher, abort.signal);
  }
  const startedMs = timeline.now;
  while (renewedAtMs.length < NODES) await timeline.step();
  abort.abort();

  const latestMs = startedMs + (TTL_SECONDS - MARGIN_SECONDS) * 1000;
  const minutes = renewedAtMs.map((atMs) => Math.floor((latestMs - atMs) / MINUTE_MS));
  assert.ok(
    minutes.every((minute) => minute >= -1 && minute <= 6),
    minutes.join(' '),
  );
  // A tenth of the hour: six minutes, in each of which some renew and not many.
  const counts = [0, 1, 2, 3, 4, 5].map((minute) => minutes.filter((each) => each === minute).length);
  assert.ok(
    counts.every((count) => count > 0 && count <= NODES / 3),
    counts.join(' '),
  );
});
