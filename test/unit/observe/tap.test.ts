import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { request, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import type { TapSource } from '../../../src/backend/tap-source.js';
import {
  ADDRESS,
  DESCRIPTOR_WORDS,
  FORWARD,
  LENGTH,
  OFFSET,
  PORT,
  SEGMENTS,
  VERDICT,
} from '../../../src/dataplane/descriptors.js';
import { DropReason } from '../../../src/dataplane/drop-reasons.js';
import { TAP_BYTES, TapReader, TapWriter } from '../../../src/dataplane/tap.js';
import { compileFilter } from '../../../src/debug/compile-filter.js';
import { FlannelError } from '../../../src/errors.js';
import { ControlClient } from '../../../src/flannelctl/control-client.js';
import { ControlServer } from '../../../src/observe/control-server.js';
import {
  encodeEvent,
  encodeHello,
  encodeLoss,
  TapFrameReader,
  type TapEvent,
  type TapFrame,
  type TapHello,
  type TapRequest,
} from '../../../src/observe/tap-protocol.js';
import { TapHub } from '../../../src/observe/tap-hub.js';
import { readTapRequest } from '../../../src/observe/tap-request.js';
import { parsePrefix } from '../../../src/packet/address.js';
import { decrementTtl } from '../../../src/packet/ipv4.js';
import { until } from '../../harness/until.js';
import { packetOf } from '../dataplane/arena.js';
import { ip } from '../../support/addresses.js';

const PEER = ip('192.168.64.2');
const ALL: TapRequest = { packetBytes: 65536, wirePackets: false };

/** The tap of a worker that carries what a test tells it to. */
class Worker {
  private readonly shared = new SharedArrayBuffer(TAP_BYTES);
  private readonly arena = Buffer.alloc(1 << 20);
  private readonly descriptors = new Int32Array(16 * DESCRIPTOR_WORDS);
  private readonly writer: TapWriter;
  readonly reader = new TapReader(this.shared);

  constructor(readonly direction: 'encap' | 'decap') {
    const { shared, arena, descriptors } = this;
    this.writer = new TapWriter({ shared, direction, arena, descriptors });
  }

  carry(packet: Buffer, verdict: number = FORWARD, segments = 1): void {
    packet.copy(this.arena);
    if (verdict === FORWARD) decrementTtl(this.arena, 0);
    this.descriptors.fill(0);
    this.descriptors[OFFSET] = 0;
    this.descriptors[LENGTH] = packet.length;
    this.descriptors[VERDICT] = verdict;
    this.descriptors[ADDRESS] = PEER;
    this.descriptors[PORT] = 8285;
    this.descriptors[SEGMENTS] = segments;
    this.writer.observe(1);
    this.writer.conclude();
  }
}

class Backend implements TapSource {
  readonly encap = new Worker('encap');
  readonly decap = new Worker('decap');
  readonly device = 'flannel0';
  readonly tunnelEnd = { address: ip('192.168.64.1'), port: 8285 };
  readonly taps = [this.encap, this.decap].map(({ direction, reader }) => ({ direction, queue: 0, reader }));
  leaseOf = (inner: number) => (inner >>> 8 === 0x0a0502 ? parsePrefix('10.5.2.0/24') : undefined);
}

/** A subscriber, and what it was shown. */
class Reader {
  readonly frames: TapFrame[] = [];
  readonly life = new AbortController();
  readonly done: Promise<void>;

  constructor(client: ControlClient, wanted: TapRequest) {
    this.done = this.read(client, wanted);
  }

  private async read(client: ControlClient, wanted: TapRequest): Promise<void> {
    for await (const frame of client.tap(wanted, this.life.signal)) this.frames.push(frame);
  }

  async begun(): Promise<this> {
    await Promise.race([until('the hello comes', () => this.frames.length > 0), this.done]);
    return this;
  }

  get events(): TapEvent[] {
    return this.frames.flatMap((frame) => (frame.kind === 'event' ? [frame.event] : []));
  }

  async has(count: number): Promise<TapEvent[]> {
    await until(`${count} events`, () => this.events.length >= count);
    return this.events;
  }
}

describe('the stream of packets on the control socket', () => {
  let folder: string;
  let path: string;
  let server: ControlServer;
  let client: ControlClient;
  let backend: Backend | undefined;
  const readers: Reader[] = [];

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'flannelette-tap-'));
    path = join(folder, 'flanneld.sock');
    backend = new Backend();
    const unasked = (): never => assert.fail('nobody asks');
    const source = { version: '1.2.3', status: unasked, leaseAnswers: unasked, explain: unasked };
    const taps = { tapSource: () => backend, tapNode: () => ({ node: '192.168.64.1', externalInterface: 'eth0' }) };
    server = await ControlServer.listen(path, source, { taps: new TapHub(taps) });
    client = new ControlClient(path);
  });
  afterEach(async () => {
    for (const reader of readers.splice(0)) {
      reader.life.abort();
      await reader.done.catch(() => undefined);
    }
    await server.close();
    rmSync(folder, { recursive: true, force: true });
  });

  function read(wanted: Partial<TapRequest> = {}): Promise<Reader> {
    const reader = new Reader(client, { ...ALL, ...wanted });
    readers.push(reader);
    return reader.begun();
  }

  function running(): Backend {
    return backend ?? assert.fail('no backend');
  }

  const good = packetOf('10.5.1.6', '10.5.2.7', { ttl: 63 });
  const reply = packetOf('10.5.2.7', '10.5.1.6', { ttl: 62 });

  test('a subscriber is greeted, and shown what passes', async () => {
    const reader = await read();
    const [greeting] = reader.frames as [{ kind: 'hello'; hello: TapHello }];
    assert.deepEqual(
      { ...greeting.hello, reasons: greeting.hello.reasons.length },
      {
        node: '192.168.64.1',
        device: 'flannel0',
        externalInterface: 'eth0',
        tunnelEnd: running().tunnelEnd,
        reasons: 13,
      },
    );
    assert.equal(greeting.hello.reasons[DropReason.NoLease].name, 'no-lease');
    running().encap.carry(good);
    running().decap.carry(reply);
    running().encap.carry(packetOf('10.5.1.6', '10.5.9.9'), DropReason.NoLease);
    const events = await reader.has(3);
    assert.deepEqual(
      events.map(({ direction, reason, lease, underlayAddress }) => [
        direction,
        reason,
        lease?.address,
        underlayAddress,
      ]),
      [
        ['encap', 0, ip('10.5.2.0'), PEER],
        ['decap', 0, ip('10.5.2.0'), PEER],
        ['encap', DropReason.NoLease, undefined, 0],
      ],
    );
    assert.deepEqual(events[0].packet, good);
    assert.ok(events.every(({ timeNs }) => Math.abs(Number(timeNs / 1_000_000n) - Date.now()) < 60_000));
  });

  test('each subscriber is shown what it asked for, and only that', async () => {
    const small = await compileFilter('less 100 and src host 10.5.1.6');
    const readersOf: readonly (readonly [Partial<TapRequest>, readonly string[]])[] = [
      [{ direction: 'decap' }, ['decap 0', 'decap 10', 'decap 9']],
      [{ dropsOnly: true }, ['encap 4', 'decap 10', 'decap 9']],
      [{ reasons: ['no-lease', 'spoofed-source'] }, ['encap 4', 'decap 10']],
      [{ filter: small }, ['encap 0', 'encap 4']],
      [
        { outerFilter: await compileFilter('src port 8285 and src host 192.168.64.2') },
        ['decap 0', 'decap 10', 'decap 9'],
      ],
      [{ outerFilter: await compileFilter('dst host 192.168.64.2 and ip[28 + 8] = 62') }, ['encap 0']],
      [{ wirePackets: true }, ['encap 0', 'encap 4', 'decap 0', 'decap 10', 'decap 9']],
      [{}, ['encap 0', 'encap 4', 'decap 0', 'decap 10', 'decap 9', 'encap 0']],
    ];
    const all = await Promise.all(readersOf.map(([wanted]) => read(wanted)));
    const { encap, decap } = running();
    encap.carry(good);
    encap.carry(good, DropReason.NoLease);
    decap.carry(reply);
    decap.carry(reply, DropReason.SpoofedSource);
    decap.carry(reply, DropReason.UnknownSender);
    // A super-packet, whose packets on the wire a worker without a cut does not show.
    encap.carry(packetOf('10.5.1.6', '10.5.2.7', {}, 4000), FORWARD, 3);
    for (const [index, [wanted, expected]] of readersOf.entries()) {
      const events = await all[index].has(expected.length);
      const seen = events.map(({ direction, reason }) => `${direction} ${reason}`);
      // Times of different workers are close; only each worker's own order is told.
      assert.deepEqual([...seen].sort(), [...expected].sort(), JSON.stringify(wanted));
    }
  });

  test('samples of different sizes each have their share', async () => {
    const [every, tenth] = await Promise.all([read(), read({ every: 10 })]);
    for (let packet = 0; packet < 1000; packet++) running().encap.carry(good);
    await every.has(1000);
    running().encap.carry(good, DropReason.NoLease);
    await every.has(1001);
    assert.equal(tenth.events.length, 100);
  });

  test('workers record nothing before and after somebody watches', async () => {
    const { encap } = running();
    encap.carry(good);
    const reader = await read();
    encap.carry(packetOf('10.5.1.6', '10.5.2.8'));
    assert.equal((await reader.has(1)).length, 1);
    reader.life.abort();
    await reader.done;
    await until('nothing is recorded', () => {
      encap.reader.discard();
      encap.carry(good);
      return !encap.reader.drain(() => undefined, 0);
    });
  });

  test('one who comes later gets nothing from before, and takes nothing from others', async () => {
    const first = await read();
    running().encap.carry(good);
    await first.has(1);
    const second = await read({ dropsOnly: true });
    running().encap.carry(good);
    running().encap.carry(good, DropReason.NoLease);
    await first.has(3);
    assert.equal((await second.has(1)).length, 1);
    second.life.abort();
    await second.done;
    running().encap.carry(good);
    await first.has(4);
  });

  test('a backend that is started anew is watched on', async () => {
    const reader = await read();
    running().encap.carry(good);
    await reader.has(1);
    backend = new Backend();
    const { encap } = backend;
    await until('packets are seen again', () => {
      encap.carry(good);
      return reader.events.length >= 2;
    });
  });

  test('one who does not read loses its own records, counted, and nobody else does', async () => {
    const body = JSON.stringify(ALL);
    const asking = request({
      socketPath: path,
      path: '/v1/tap',
      method: 'POST',
      headers: { 'content-length': body.length },
    });
    const answered = once(asking, 'response');
    asking.end(body);
    const [response] = (await answered) as [IncomingMessage];
    const other = await read({ filter: await compileFilter('icmp') });
    const large = packetOf('10.5.1.6', '10.5.2.7', {}, 60_000);
    for (let batch = 0; batch < 8; batch++) {
      for (let packet = 0; packet < 50; packet++) running().encap.carry(large);
      await until('it is taken from the ring', () => !running().encap.reader.drain(() => undefined, 0));
    }
    running().encap.carry(packetOf('10.5.1.6', '10.5.2.7', { protocol: 1 }));
    await other.has(1);
    // It reads after all, and learns how much it has missed.
    const frames: TapFrame[] = [];
    const decoder = new TapFrameReader();
    response.on('data', (piece: Buffer) => frames.push(...decoder.read(piece)));
    const loss = await until('it is told', () => frames.find((frame) => frame.kind === 'loss'));
    const shown = frames.filter(({ kind }) => kind === 'event').length;
    assert.ok(loss.kind === 'loss' && loss.loss.reader > 0 && loss.loss.ring === 0);
    assert.ok(loss.loss.reader + shown <= 401 && loss.loss.reader + shown >= 400, `${loss.loss.reader} and ${shown}`);
    response.destroy();
    assert.ok(other.frames.every(({ kind }) => kind !== 'loss'));
  });

  test('what a worker had no room for is counted as well', async () => {
    const reader = await read({ direction: 'encap' });
    const large = packetOf('10.5.1.6', '10.5.2.7', {}, 60_000);
    // More than a ring holds, before the main thread comes to look.
    for (let packet = 0; packet < 100; packet++) running().encap.carry(large);
    const { lost } = running().encap.reader;
    assert.ok(lost > 0);
    await until('it is told', () => reader.frames.some((frame) => frame.kind === 'loss'));
    const told = reader.frames.flatMap((frame) => (frame.kind === 'loss' ? [frame.loss] : []));
    assert.deepEqual(told, [{ ring: lost, reader: 0 }]);
    assert.equal((await reader.has(100 - lost)).length, 100 - lost);
  });

  test('a client is told why it cannot watch', async () => {
    const refused = (wanted: unknown, message: RegExp) =>
      assert.rejects(new Reader(client, wanted as TapRequest).done, (error) => {
        assert.ok(error instanceof FlannelError && error.code === 'CONTROL', String(error));
        assert.match(error.message, message);
        return true;
      });
    await refused({ ...ALL, filter: [1, 2, 3] }, /answered 400: packet filter: /);
    await refused({ ...ALL, filter: 'x'.repeat(600_000) }, /answered 413|hung up/);
    await Promise.all(Array.from({ length: 16 }, () => read()));
    await refused(ALL, /answered 503: 16 traces and captures run already/);
    backend = undefined;
    await refused(ALL, /answered 503: packets do not flow on this node yet/);
  });

  test('a client learns that the daemon ends', async () => {
    const reader = await read();
    const ended = assert.rejects(reader.done, /hung up: it is stopping/);
    await server.close();
    await ended;
  });
});

describe('the protocol', () => {
  test('a request says which of its fields is wrong', () => {
    const refused: readonly (readonly [unknown, RegExp])[] = [
      [null, /no JSON object/],
      [{ ...ALL, direction: 'up' }, /"direction"/],
      [{ ...ALL, reasons: [] }, /"reasons"/],
      [{ ...ALL, reasons: ['whim'] }, /'whim' is no drop reason: choose from not-ipv4, /],
      [{ ...ALL, every: 0 }, /"every"/],
      [{ ...ALL, packetBytes: 20 }, /"packetBytes" is no integer from 128/],
      [{ ...ALL, filter: {} }, /"filter"/],
    ];
    for (const [wanted, message] of refused) assert.throws(() => readTapRequest(JSON.stringify(wanted)), message);
    assert.throws(() => readTapRequest('{'), /no JSON/);
  });

  test('property: frames come out as they went in, in whatever pieces they come', () => {
    const u32 = fc.nat({ max: 0xffffffff });
    const u16 = fc.nat({ max: 0xffff });
    const fields = {
      timeNs: fc.bigInt({ min: 0n, max: 2n ** 63n }),
      direction: fc.constantFrom('encap' as const, 'decap' as const),
      queue: u16,
      reason: fc.nat(12),
      error: u16,
      underlayAddress: u32,
      underlayPort: u16,
      lease: fc.option(fc.record({ address: u32, length: fc.nat(32) }, { noNullPrototype: true }), { nil: undefined }),
      packet: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      lengthBytes: u32,
      segments: u32,
      segment: fc.integer({ min: -1, max: 65535 }),
      batchPackets: u16,
      merged: u32,
      every: u32,
    };
    const event = fc.record(fields, { noNullPrototype: true });
    fc.assert(
      fc.property(fc.array(event, { maxLength: 5 }), fc.integer({ min: 1, max: 300 }), (events, pieceBytes) => {
        const hello = {
          node: 'n',
          device: 'd',
          externalInterface: 'e',
          tunnelEnd: { address: 1, port: 2 },
          reasons: [],
        };
        const sent: TapFrame[] = [
          { kind: 'hello', hello },
          ...events.map((one) => ({ kind: 'event' as const, event: one })),
          { kind: 'loss', loss: { ring: 1, reader: 2 } },
        ];
        const unknownKind = Buffer.from([3, 0, 0, 0, 99, 1, 2]);
        const stream = Buffer.concat([
          encodeHello(hello),
          unknownKind,
          ...events.map(encodeEvent),
          encodeLoss({ ring: 1, reader: 2 }),
        ]);
        const decoder = new TapFrameReader();
        const got: TapFrame[] = [];
        for (let at = 0; at < stream.length; at += pieceBytes)
          got.push(...decoder.read(stream.subarray(at, at + pieceBytes)));
        assert.deepEqual(got, sent);
      }),
    );
    assert.throws(() => [...new TapFrameReader().read(Buffer.from([255, 255, 255, 255, 1]))], RangeError);
  });
});
