import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { compileFilter } from '../../../src/debug/compile-filter.js';
import { FlannelError, UsageError } from '../../../src/errors.js';
import { CommandError, commandEnvironment } from '../../../src/host/command.js';
import { PacketFilter } from '../../../src/packet/classic-bpf.js';
import { writeIpv4Header } from '../../../src/packet/ipv4.js';

interface Captured {
  /** As much of the packet as a capture kept. */
  readonly bytes: Buffer;
  readonly lengthBytes: number;
}

const LINKTYPE_RAW = 101;

/** A capture file of the old kind (draft-ietf-opsawg-pcap); the packets' times are their numbers. */
function pcapFile(packets: readonly Captured[]): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(65535, 16);
  header.writeUInt32LE(LINKTYPE_RAW, 20);
  return Buffer.concat([
    header,
    ...packets.flatMap(({ bytes, lengthBytes }, number) => {
      const record = Buffer.alloc(16);
      [number + 1, 0, bytes.length, lengthBytes].forEach((value, index) => record.writeUInt32LE(value, 4 * index));
      return [record, bytes];
    }),
  ]);
}

/** The numbers of the packets in such a file. */
function numbersIn(file: Buffer): number[] {
  const numbers: number[] = [];
  for (let at = 24; at < file.length; at += 16 + file.readUInt32LE(at + 8)) numbers.push(file.readUInt32LE(at) - 1);
  return numbers;
}

/** Few values each, so that filters have something to find. */
const address = fc.constantFrom(0x0a050106, 0x0a052207, 0x0a052208, 0xc0a84002, 0x08080808);
const port = fc.constantFrom(53, 80, 0x0800, 443, 8285, 40000);

const ipv4Packet = fc
  .record({
    source: address,
    destination: address,
    protocol: fc.constantFrom(1, 6, 6, 6, 17, 17, 47),
    ttl: fc.constantFrom(1, 2, 64),
    fragmentWord: fc.constantFrom(0, 0, 0x4000, 0x2000, 0x0010),
    optionWords: fc.constantFrom(0, 0, 0, 1, 4),
    ports: fc.tuple(port, port),
    payload: fc.uint8Array({ minLength: 4, maxLength: 60, size: 'max' }),
  })
  .map(({ optionWords, ports, payload, ...header }) => {
    const bytes = Buffer.alloc(20 + 4 * optionWords + payload.length + 4);
    writeIpv4Header(bytes, 0, { ...header, totalBytes: bytes.length });
    bytes[0] = 0x45 + optionWords;
    bytes.writeUInt16BE(ports[0], 20 + 4 * optionWords);
    bytes.writeUInt16BE(ports[1], 22 + 4 * optionWords);
    bytes.set(payload, 24 + 4 * optionWords);
    return bytes;
  });
const otherPacket = fc.uint8Array({ minLength: 1, maxLength: 80, size: 'max' }).map((bytes) => Buffer.from(bytes));
const captured = fc
  .record({
    bytes: fc.oneof({ arbitrary: ipv4Packet, weight: 5 }, { arbitrary: otherPacket, weight: 1 }),
    cutTo: fc.oneof(
      { arbitrary: fc.constant(65535), weight: 4 },
      { arbitrary: fc.integer({ min: 1, max: 40 }), weight: 1 },
    ),
  })
  .map(({ bytes, cutTo }): Captured => ({ bytes: bytes.subarray(0, cutTo), lengthBytes: bytes.length }));

const PRIMITIVES = [
  ...['ip', 'ip6', 'tcp', 'udp', 'icmp', 'ip proto 47', 'host 10.5.34.7', 'src host 10.5.1.6', 'net 10.5.34.0/24'],
  ...['dst net 10.5.0.0/16', 'port 80', 'tcp port 443', 'udp src port 53', 'tcp dst port 80', 'portrange 50-100'],
  ...['less 60', 'greater 50', 'len > 70', 'ip[8] = 1', 'ip[6:2] & 0x1fff != 0', 'tcp[13] & 2 != 0', 'icmp[0] = 8'],
  ...['ip[0] & 0xf != 5', 'ip[2:2] - ((ip[0] & 0xf) << 2) > 40', 'tcp[((tcp[12] & 0xf0) >> 2):2] > 0x7fff'],
  ...['ip[12:4] = ip[16:4]', 'ip[9] * 2 = 34', 'ip[8] % 2 = 0', 'ip multicast', 'ip host 8.8.8.8'],
];
const expression = fc.letrec<{ filter: string }>((tie) => ({
  filter: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom(...PRIMITIVES),
    fc.tuple(tie('filter'), fc.constantFrom('and', 'or'), tie('filter')).map(([a, word, b]) => `(${a}) ${word} (${b})`),
    tie('filter').map((filter) => `not (${filter})`),
  ),
})).filter;

describe("filters are libpcap's", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'flannel-filter-test-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  /** What tcpdump itself takes from a capture. */
  async function verdictOfTcpdump(filter: string, packets: readonly Captured[]): Promise<number[]> {
    const path = join(folder, 'packets.pcap');
    await writeFile(path, pcapFile(packets));
    const { stdout } = await promisify(execFile)('tcpdump', ['-r', path, '-w', '-', '--', filter], {
      encoding: 'buffer',
      env: commandEnvironment(),
    });
    return numbersIn(stdout);
  }

  test('property: a compiled filter takes the packets that tcpdump takes', async () => {
    await fc.assert(
      fc.asyncProperty(
        expression,
        fc.array(captured, { minLength: 20, maxLength: 60, size: 'max' }),
        async (filter, packets) => {
          let program: number[];
          try {
            program = await compileFilter(filter);
          } catch (error) {
            // The compiler refuses what can never be true, such as `tcp and udp`.
            assert.match((error as Error).message, /rejects all packets/);
            return;
          }
          const ours = new PacketFilter(program);
          const taken = packets.flatMap(({ bytes, lengthBytes }, number) =>
            ours.matches(bytes, lengthBytes) ? [number] : [],
          );
          assert.deepEqual(taken, await verdictOfTcpdump(filter, packets));
        },
      ),
      { numRuns: 120 },
    );
  });

  test('each kind of filter takes some packets and leaves others', async () => {
    const packets = fc.sample(captured, { numRuns: 3000, seed: 7 });
    for (const filter of PRIMITIVES.filter((one) => one !== 'ip multicast')) {
      const ours = new PacketFilter(await compileFilter(filter));
      const taken = packets.filter(({ bytes, lengthBytes }) => ours.matches(bytes, lengthBytes)).length;
      assert.ok(taken > 0 && taken < packets.length, `${filter}: ${taken} of ${packets.length}`);
    }
  });

  test('an empty filter takes everything', async () => {
    assert.ok(new PacketFilter(await compileFilter('')).matches(Buffer.alloc(1), 1));
  });

  test("a bad filter gives the compiler's own message in one line", async () => {
    const refused: readonly (readonly [string, RegExp])[] = [
      ['hst 10.5.2.3', /^bad filter 'hst 10\.5\.2\.3': .*syntax error/],
      ['tcp port', /syntax error/],
      ['-w /tmp/x', /syntax error/],
      ['ether host 00:11:22:33:44:55', /ethernet/],
      ['inbound', /--direction/],
    ];
    for (const [filter, message] of refused) {
      await assert.rejects(compileFilter(filter), (error) => {
        assert.ok(error instanceof UsageError);
        assert.match(error.message, message);
        assert.ok(!error.message.includes('\n'));
        return true;
      });
    }
  });

  test('without tcpdump, one line says what to install', async () => {
    const missing = () => {
      const message = 'cannot run tcpdump: there is no such program in PATH: install the package tcpdump';
      return Promise.reject(new CommandError(message, 'missing', { stdout: '', stderr: '', status: 127 }));
    };
    await assert.rejects(
      compileFilter('tcp', missing),
      (error) => error instanceof FlannelError && /install the package tcpdump/.test(error.message),
    );
  });

  test('what another program of that name prints is not taken for a filter', async () => {
    const odd = () => Promise.resolve({ stdout: '2\n6 0 0 1\n', stderr: '', status: 0 });
    await assert.rejects(compileFilter('tcp', odd), /cannot read the program/);
  });
});
