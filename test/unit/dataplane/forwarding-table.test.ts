import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  ForwardingTable,
  ForwardingTableReader,
  NO_LEASE,
  OUTSIDE,
  OWN_SUBNET,
  type ForwardingEntry,
} from '../../../src/dataplane/forwarding-table.js';
import { formatPrefix, lastAddress, prefixContains, prefixOf, type Ipv4Prefix } from '../../../src/packet/address.js';
import { ip, prefix } from '../../support/addresses.js';

/** A worker has done with a batch and begins the next. */
function passOn(reader: ForwardingTableReader, worker: number): void {
  reader.offline(worker);
  reader.online(worker);
}

/** What a lookup means, whatever slot stands for it. */
function resolve(table: ForwardingTableReader, address: number): string {
  const slot = table.lookup(address);
  if (slot === NO_LEASE) return 'no lease';
  if (slot === OWN_SUBNET) return 'own';
  if (slot === OUTSIDE) return 'outside';
  return `${table.slotAddress(slot)}:${table.slotPort(slot)}`;
}

/** The same answers by trying every lease: the definition of longest prefix match. */
class NaiveTable {
  readonly entries = new Map<string, ForwardingEntry>();
  own: Ipv4Prefix | undefined;

  constructor(readonly network: Ipv4Prefix) {}

  resolve(address: number): string {
    if (!prefixContains(this.network, address)) return 'outside';
    let best: ForwardingEntry | 'own' | undefined;
    let bestLength = -1;
    for (const entry of this.entries.values()) {
      if (entry.prefix.length > bestLength && prefixContains(entry.prefix, address)) {
        best = entry;
        bestLength = entry.prefix.length;
      }
    }
    if (this.own !== undefined && this.own.length >= bestLength && prefixContains(this.own, address)) best = 'own';
    if (best === undefined) return 'no lease';
    return best === 'own' ? 'own' : `${best.address}:${best.port}`;
  }
}

describe('forwarding table', () => {
  test('a lease of SubnetLen is found by every address in it and by no other', () => {
    const table = ForwardingTable.create({ network: prefix('10.5.0.0/16'), subnetLength: 24 });
    table.set(prefix('10.5.34.0/24'), ip('192.168.64.3'), 8285);
    table.setOwn(prefix('10.5.7.0/24'));
    const reader = new ForwardingTableReader(table.buffer);
    const expected: [string, string][] = [
      ['10.5.34.0', `${ip('192.168.64.3')}:8285`],
      ['10.5.34.255', `${ip('192.168.64.3')}:8285`],
      ['10.5.33.255', 'no lease'],
      ['10.5.35.0', 'no lease'],
      ['10.5.7.9', 'own'],
      ['10.4.255.255', 'outside'],
      ['10.6.0.0', 'outside'],
      ['0.0.0.0', 'outside'],
    ];
    for (const [address, answer] of expected) assert.equal(resolve(reader, ip(address)), answer, address);
    assert.equal(resolve(reader, ip('10.5.34.7') | 0), `${ip('192.168.64.3')}:8285`, 'a signed address is the same');
    assert.equal(table.leaseCount, 1);
    assert.equal(table.nextHopCount, 1);
  });

  test('addresses above 128.0.0.0 and a network of /0 work as any other', () => {
    for (const network of ['128.0.0.0/1', '0.0.0.0/0', '240.0.0.0/4']) {
      const table = ForwardingTable.create({ network: prefix(network), subnetLength: 12 });
      table.set(prefix('250.16.0.0/12'), ip('203.0.113.9'), 65535);
      assert.equal(resolve(table, ip('250.31.255.255')), `${ip('203.0.113.9')}:65535`);
      assert.equal(resolve(table, ip('250.32.0.0')), 'no lease');
    }
  });

  const geometries = [
    { network: '10.5.0.0/16', subnetLength: 24 },
    { network: '10.0.0.0/8', subnetLength: 30 },
    { network: '10.5.0.0/20', subnetLength: 22 },
    { network: '128.0.0.0/2', subnetLength: 30 },
    { network: '192.168.16.0/28', subnetLength: 30 },
    { network: '0.0.0.0/0', subnetLength: 9 },
  ];

  for (const { network, subnetLength } of geometries) {
    test(`${network} with /${subnetLength}: answers as trying every lease does, under random changes`, () => {
      const whole = prefix(network);
      // Few distinct addresses close together, so that leases of all lengths nest, and anywhere in the network.
      const address = fc
        .oneof(fc.nat({ max: 0x3ff }), fc.nat({ max: 2 ** (32 - whole.length) - 1 }))
        .map((offset) => (whole.address + (offset % 2 ** (32 - whole.length))) >>> 0);
      const minLength = Math.max(whole.length, subnetLength - 10);
      const subnet = fc
        .tuple(address, fc.oneof(fc.constant(subnetLength), fc.integer({ min: minLength, max: 32 })))
        .map(([inside, length]) => prefixOf(inside, length));
      const entry = fc.record({ prefix: subnet, address: fc.integer({ min: 1, max: 6 }), port: fc.constant(8285) });
      const command = fc.oneof(
        { weight: 6, arbitrary: entry.map((value) => ({ kind: 'set' as const, value })) },
        { weight: 4, arbitrary: fc.record({ kind: fc.constant('delete' as const), pick: fc.nat(), subnet }) },
        { weight: 1, arbitrary: subnet.map((value) => ({ kind: 'own' as const, value })) },
        {
          weight: 1,
          arbitrary: fc.array(entry, { maxLength: 20 }).map((value) => ({ kind: 'replace' as const, value })),
        },
      );
      fc.assert(
        fc.property(fc.array(command, { maxLength: 60 }), fc.array(address, { maxLength: 40 }), (commands, probes) => {
          const table = ForwardingTable.create({ network: whole, subnetLength, workers: 2 });
          const reader = new ForwardingTableReader(table.buffer);
          const naive = new NaiveTable(whole);
          for (const step of commands) {
            switch (step.kind) {
              case 'set': {
                const { refused } = table.set(step.value.prefix, step.value.address, step.value.port);
                if (refused.length === 0) naive.entries.set(formatPrefix(step.value.prefix), step.value);
                break;
              }
              case 'delete': {
                const known = [...naive.entries.values()].map((known) => known.prefix);
                const gone = step.pick % 2 === 0 && known.length > 0 ? known[step.pick % known.length] : step.subnet;
                table.delete(gone);
                naive.entries.delete(formatPrefix(gone));
                break;
              }
              case 'own':
                table.setOwn(step.value);
                naive.own = step.value;
                naive.entries.delete(formatPrefix(step.value));
                break;
              case 'replace': {
                const refused = table.replaceAll(step.value).refused.map(({ prefix }) => formatPrefix(prefix));
                naive.entries.clear();
                for (const value of step.value) {
                  const key = formatPrefix(value.prefix);
                  if (!refused.includes(key)) naive.entries.set(key, value);
                }
                break;
              }
            }
          }
          const edges = [...naive.entries.values()].flatMap(({ prefix }) => [
            prefix.address,
            lastAddress(prefix),
            (prefix.address - 1) >>> 0,
            (lastAddress(prefix) + 1) >>> 0,
          ]);
          for (const probe of [...probes, ...edges]) {
            assert.equal(resolve(reader, probe), naive.resolve(probe), `address ${probe.toString(16)}`);
          }
          const owners = new Set([...naive.entries.values()].map((entry) => entry.address));
          for (let member = 1; member <= 6; member++) assert.equal(reader.isMember(member), owners.has(member));
          assert.equal(table.leaseCount, naive.entries.size);
          assert.equal(table.nextHopCount, owners.size);
        }),
        { numRuns: 150 },
      );
    });
  }

  test('10,000 random lookups among 10,000 leases agree with a scan', () => {
    const network = prefix('10.0.0.0/8');
    const table = ForwardingTable.create({ network, subnetLength: 24 });
    const naive = new NaiveTable(network);
    let seed = 7;
    const random = (): number => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) / 2 ** 32;
    const entries: ForwardingEntry[] = [];
    for (let index = 0; index < 10_000; index++) {
      const length = random() < 0.9 ? 24 : 20 + Math.floor(random() * 10);
      const subnet = prefixOf((network.address + Math.floor(random() * 2 ** 24)) >>> 0, length);
      const entry = { prefix: subnet, address: ip('172.16.0.1') + index, port: 8285 };
      entries.push(entry);
      naive.entries.set(formatPrefix(subnet), entry);
    }
    table.replaceAll(entries);
    for (let index = 0; index < 10_000; index++) {
      const inside = entries[index].prefix;
      const address = inside.address + Math.floor(random() * 2 ** (33 - inside.length));
      // A scan of 10,000 leases for each of 10,000 addresses takes long: every tenth is held against it.
      if (index % 10 === 0) assert.equal(resolve(table, address), naive.resolve(address));
      else assert.notEqual(resolve(table, inside.address), 'no lease');
    }
  });

  test('overlapping leases are told once, with the longer one named', () => {
    const table = ForwardingTable.create({ network: prefix('10.5.0.0/16'), subnetLength: 24 });
    table.set(prefix('10.5.16.0/24'), 1, 8285);
    const first = table.set(prefix('10.5.16.0/20'), 2, 8285);
    const named = first.overlaps.map(({ longer, shorter }) => `${formatPrefix(longer)} in ${formatPrefix(shorter)}`);
    assert.deepEqual(named, ['10.5.16.0/24 in 10.5.16.0/20']);
    assert.deepEqual(table.set(prefix('10.5.16.0/20'), 3, 8285).overlaps, []);
    assert.equal(table.set(prefix('10.5.17.128/25'), 4, 8285).overlaps.length, 1);
  });

  test("a lease outside the Network, and one for this node's own subnet, are refused with a reason", () => {
    const table = ForwardingTable.create({ network: prefix('10.5.0.0/16'), subnetLength: 24 });
    table.setOwn(prefix('10.5.1.0/24'));
    assert.match(table.set(prefix('10.6.1.0/24'), 1, 8285).refused[0].reason, /not in the Network 10\.5\.0\.0\/16/);
    assert.match(table.set(prefix('10.0.0.0/8'), 1, 8285).refused[0].reason, /not in the Network/);
    assert.match(table.set(prefix('10.5.1.0/24'), 1, 8285).refused[0].reason, /own subnet/);
    table.delete(prefix('10.5.1.0/24'));
    assert.equal(table.lookup(ip('10.5.1.1')), OWN_SUBNET);
  });

  test('a next hop keeps its slot until every worker that is awake has passed a quiescent point', () => {
    const table = ForwardingTable.create({ network: prefix('10.5.0.0/16'), subnetLength: 24, workers: 3 });
    const [first, second] = [new ForwardingTableReader(table.buffer), new ForwardingTableReader(table.buffer)];
    first.online(0);
    second.online(1);
    const subnet = prefix('10.5.1.0/24');
    const addressOf = (slot: number): number => first.slotAddress(slot);

    table.set(subnet, 1, 8285);
    const held = first.lookup(ip('10.5.1.1'));
    for (let address = 2; address < 50; address++) {
      table.set(subnet, address, 8285);
      passOn(second, 1);
      assert.equal(addressOf(held), 1, 'worker 0 still holds the slot');
    }
    passOn(first, 0);
    passOn(second, 1);
    table.set(subnet, 50, 8285);
    const reused = new Set<number>();
    for (let address = 51; address < 60; address++) {
      table.set(subnet, address, 8285);
      reused.add(table.lookup(ip('10.5.1.1')));
    }
    assert.ok(Math.max(...reused) < 50, 'slots are used again once both have passed');

    second.offline(1);
    const before = first.lookup(ip('10.5.1.1'));
    table.set(subnet, 100, 8285);
    passOn(first, 0);
    for (let address = 101; address < 200; address++) {
      table.set(subnet, address, 8285);
      passOn(first, 0);
    }
    assert.notEqual(addressOf(before), 59, 'a sleeping worker holds nothing up');
  });

  test('a churn of leases of every length does not use up slots or blocks', () => {
    const table = ForwardingTable.create({ network: prefix('10.5.0.0/16'), subnetLength: 24, workers: 1 });
    table.online(0);
    const before = table.memoryBytes;
    for (let round = 1; round <= 100_000; round++) {
      const subnet = prefixOf(ip('10.5.0.0') + (round % 65536), 25 + (round % 8));
      assert.deepEqual(table.set(subnet, round, 8285).refused, []);
      table.delete(subnet);
      passOn(table, 0);
    }
    assert.equal(table.leaseCount, 0);
    assert.ok(table.memoryBytes - before < 65536, `${table.memoryBytes - before} bytes more`);
  });

  test('every /30 of a /8 can be leased, and costs what the documentation says', () => {
    const table = ForwardingTable.create({ network: prefix('10.0.0.0/8'), subnetLength: 30 });
    const rssBefore = process.memoryUsage.rss();
    for (let offset = 0; offset < 2 ** 24; offset += 2 ** 10) {
      table.set({ address: ip('10.0.0.0') + offset, length: 30 }, ip('172.16.0.0') + (offset >>> 10), 8285);
    }
    assert.equal(table.leaseCount, 2 ** 14);
    assert.equal(resolve(table, ip('10.255.252.3')), `${ip('172.16.0.0') + 2 ** 14 - 1}:8285`);
    assert.ok(process.memoryUsage.rss() - rssBefore < 96 * 2 ** 20);
    assert.ok(table.buffer.byteLength < 160 * 2 ** 20, `${table.buffer.byteLength} bytes reserved`);
  });

  test('a /2 with /30 subnets reserves no more than the cap', () => {
    const table = ForwardingTable.create({ network: prefix('64.0.0.0/2'), subnetLength: 30 });
    assert.ok(table.buffer.byteLength < 256 * 2 ** 20, `${table.buffer.byteLength} bytes reserved`);
    table.set(prefix('100.64.3.4/30'), 9, 8285);
    assert.equal(resolve(table, ip('100.64.3.6')), '9:8285');
    assert.equal(resolve(table, ip('100.64.3.8')), 'no lease');
  });

  test('lengths that do not fit together are refused, and so is a foreign buffer', () => {
    assert.throws(() => ForwardingTable.create({ network: prefix('10.0.0.0/16'), subnetLength: 8 }), /do not fit/);
    assert.throws(() => new ForwardingTableReader(new SharedArrayBuffer(4096)), /holds no table/);
  });
});

describe('senders and own addresses', () => {
  test('a sender is a member while it owns a lease, or when it is trusted', () => {
    const table = ForwardingTable.create({
      network: prefix('10.5.0.0/16'),
      subnetLength: 24,
      trustedSources: [prefix('203.0.113.0/24'), prefix('198.51.100.7/32')],
    });
    const reader = new ForwardingTableReader(table.buffer);
    table.set(prefix('10.5.1.0/24'), ip('192.168.0.1'), 8285);
    table.set(prefix('10.5.2.0/24'), ip('192.168.0.1'), 8285);
    table.delete(prefix('10.5.1.0/24'));
    assert.equal(reader.isMember(ip('192.168.0.1')), true, 'it owns another lease');
    table.delete(prefix('10.5.2.0/24'));
    assert.equal(reader.isMember(ip('192.168.0.1')), false);
    assert.equal(reader.isMember(ip('203.0.113.99')), true);
    assert.equal(reader.isMember(ip('198.51.100.7')), true);
    assert.equal(reader.isMember(ip('198.51.100.8')), false);
    assert.equal(reader.isTrusted(ip('203.0.113.99') | 0), true);
    assert.equal(reader.isMember(0), false);
    assert.equal(reader.isMember(0xffffffff), false);
  });

  test('own addresses are replaced as a whole', () => {
    const table = ForwardingTable.create({ network: prefix('10.5.0.0/16'), subnetLength: 24 });
    const reader = new ForwardingTableReader(table.buffer);
    assert.equal(table.setOwnAddresses([ip('127.0.0.1'), ip('192.168.0.1')]), true);
    assert.equal(table.setOwnAddresses([ip('192.168.0.1'), ip('192.168.0.2')]), true);
    assert.deepEqual(
      ['127.0.0.1', '192.168.0.1', '192.168.0.2'].map((address) => reader.isOwnAddress(ip(address))),
      [false, true, true],
    );
    assert.equal(table.setOwnAddresses(Array.from({ length: 9000 }, (_, index) => index + 1)), false);
  });

  test('membership is that of a plain set under any sequence of changes', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 24 })), { maxLength: 400 }),
        fc.nat(),
        (steps, spread) => {
          const table = ForwardingTable.create({ network: prefix('0.0.0.0/0'), subnetLength: 8 });
          const model = new Set<number>();
          for (const [add, value] of steps) {
            const address = Math.imul(value, spread | 1) >>> 0 || 1;
            if (add) model.add(address);
            else model.delete(address);
            table.setOwnAddresses([...model]);
          }
          for (let value = 1; value <= 24; value++) {
            const address = Math.imul(value, spread | 1) >>> 0 || 1;
            if (address !== 0xffffffff) assert.equal(table.isOwnAddress(address), model.has(address));
          }
        },
      ),
      { numRuns: 200 },
    );
  });
});
