import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../../../src/clock.js';
import { silentLogger } from '../../../src/log.js';
import { createSubnetManagerOn } from '../../../src/subnet/etcd/etcd-subnet-manager.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config.js';
import type { OwnLeaseWatcher } from '../../../src/subnet/subnet-manager.js';
import { Chance } from '../../simulation/chance.js';
import { ModelConnection, type Way } from '../../simulation/model-connection.js';
import { ModelEtcd } from '../../simulation/model-etcd.js';
import { Timeline } from '../../simulation/timeline.js';

const NODES = 40;
const TTL_SECONDS = 7_200;
const MARGIN_SECONDS = 3_600;
const MINUTE_MS = 60_000;

/** Nodes that all took their subnets now, and keep them. */
class Nodes {
  readonly timeline = new Timeline();
  /** What happens on the way of all of them to the store. */
  readonly way: Way = { state: 'open', lossProbability: 0, stallProbability: 0 };
  /** When each renewed its lease first, and when it failed to. */
  readonly renewedAtMs: number[] = [];
  readonly failedAtMs: number[][] = [];
  readonly #abort = new AbortController();

  async start(): Promise<void> {
    const { timeline, way } = this;
    const clock: Clock = {
      now: () => timeline.now,
      elapsed: () => timeline.now,
      after: (delayMs, call) => timeline.after(delayMs, call),
    };
    const etcd = new ModelEtcd(timeline, () => undefined);
    const config = parseNetworkConfig('{"Network":"10.5.0.0/16"}', { backendTypes: ['udp'] });
    for (let number = 0; number < NODES; number++) {
      const chance = new Chance(number + 1);
      const connection = new ModelConnection({ actor: `node${number}`, clock, timeline, etcd, chance, way });
      const manager = createSubnetManagerOn(connection, {
        prefix: '/p',
        backendTypes: ['udp'],
        logger: silentLogger,
        ttlSeconds: TTL_SECONDS,
        random: chance.next,
      });
      const request = { publicIp: 0xc0a84001 + number, publicIpv6: null, backendType: '' };
      const acquired = manager.acquireLease(config, request, this.#abort.signal);
      let lease: Awaited<typeof acquired> | undefined;
      void acquired.then((taken) => (lease = taken));
      while (lease === undefined) await timeline.step();
      void manager.keepLease(lease, MARGIN_SECONDS, this.#watcher(number), this.#abort.signal);
    }
  }

  /** Goes on until a condition comes true. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await this.timeline.step();
  }

  end(): void {
    this.#abort.abort();
  }

  #watcher(number: number): OwnLeaseWatcher {
    const failures: number[] = [];
    this.failedAtMs[number] = failures;
    let renewed = false;
    return {
      renewed: () => {
        if (!renewed) this.renewedAtMs.push(this.timeline.now);
        renewed = true;
      },
      trouble: () => void failures.push(this.timeline.now),
      expired: () => assert.fail('it has expired'),
      missing: (reason: string) => assert.fail(reason),
      addressShared: (reason: string) => assert.fail(reason),
      lost: (reason: string) => assert.fail(reason),
    };
  }
}

test('nodes that started together renew apart, and none later than its margin', async () => {
  const nodes = new Nodes();
  await nodes.start();
  const startedMs = nodes.timeline.now;
  await nodes.until(() => nodes.renewedAtMs.length === NODES);
  nodes.end();
  assert.deepEqual(nodes.failedAtMs.flat(), []);

  const latestMs = startedMs + (TTL_SECONDS - MARGIN_SECONDS) * 1000;
  const minutes = nodes.renewedAtMs.map((atMs) => Math.floor((latestMs - atMs) / MINUTE_MS));
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

test('a renewal that failed is tried again after half a minute to a minute, by chance', async () => {
  const nodes = new Nodes();
  await nodes.start();
  const startedMs = nodes.timeline.now;
  await nodes.until(() => nodes.timeline.now > startedMs + MINUTE_MS);
  // The watches stand by now, and nothing new can be asked.
  nodes.way.state = 'refusing';
  await nodes.until(() => nodes.failedAtMs.every((failures) => failures.length > 5));
  nodes.end();
  const pausesMs = nodes.failedAtMs.flatMap((failures) =>
    failures.slice(1).map((atMs, index) => atMs - failures[index]),
  );
  const seconds = pausesMs.map((pauseMs) => Math.round(pauseMs / 1000));
  assert.ok(
    seconds.every((each) => each >= 30 && each <= 60),
    seconds.join(' '),
  );
  for (const from of [30, 40, 50]) {
    const share = seconds.filter((each) => each >= from && each < from + 10).length / seconds.length;
    assert.ok(share > 0.2 && share < 0.5, `${from}: ${share}`);
  }
});
