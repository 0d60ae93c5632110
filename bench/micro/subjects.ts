/**
 * What the micro-benchmarks measure: the steps that every packet pays for, on inputs like those of a running agent. Each
 * subject does its work `unitsPerCall` times a call, so that the harness's own call does not count.
 */
import { COUNTERS_BYTES, WorkerCounters } from '../../src/dataplane/counters.js';
import { Decapsulator } from '../../src/dataplane/decap.js';
import {
  ADDRESS,
  DESCRIPTOR_WORDS,
  ENCAP_BATCH_PACKETS as BATCH_PACKETS,
  LENGTH,
  OFFSET,
  PORT,
  SEGMENTS,
  SENT_BYTES,
  SENT_PACKETS,
} from '../../src/dataplane/descriptors.js';
import { Encapsulator } from '../../src/dataplane/encap.js';
import { ForwardingTable } from '../../src/dataplane/forwarding-table.js';
import { examine } from '../../src/dataplane/inner-packet.js';
import { SLOW_PATH_BYTES, SlowPathWriter } from '../../src/dataplane/slow-path.js';
import { TAP_BYTES, TapReader, TapWriter } from '../../src/dataplane/tap.js';
import type { Ipv4Prefix } from '../../src/packet/address.js';
import { checksum } from '../../src/packet/checksum.js';
import { decrementTtl, PROTOCOL_UDP, writeIpv4Header } from '../../src/packet/ipv4.js';

export interface Subject {
  readonly name: string;
  readonly unitsPerCall: number;
  run(): void;
}

/** 10.0.0.0/8 with /24 subnets: room for 65,536 leases. */
const NETWORK: Ipv4Prefix = { address: 0x0a000000, length: 8 };
const SUBNET_LENGTH = 24;
const OWN = { address: 0x0a000000, length: SUBNET_LENGTH };
const FIRST_PEER = 0xac100000;
const PORT_NUMBER = 8285;
const LOOKUPS = 4096;
const PACKET_PLACE_BYTES = 2048;
const PAYLOAD_BYTES = 1400;

/** Where a benchmark's results go, so that no engine may leave the work out. */
export const sink = { value: 0 };

function subnet(index: number): Ipv4Prefix {
  return { address: NETWORK.address + index * 256, length: SUBNET_LENGTH };
}

function tableOf(leases: number): ForwardingTable {
  const table = ForwardingTable.create({ network: NETWORK, subnetLength: SUBNET_LENGTH });
  table.setOwn(OWN);
  table.replaceAll(
    Array.from({ length: leases }, (_, index) => ({
      prefix: subnet(index + 1),
      address: FIRST_PEER + index,
      port: PORT_NUMBER,
    })),
  );
  return table;
}

/** The same scattered sequence in every run (a linear congruential generator). */
function scattered(count: number, below: number): number[] {
  let state = 12345;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % below;
  });
}

/** Lookups of addresses all over the leased subnets, so that a large table does not stay in the fastest cache. */
export function lookup(leases: number): Subject {
  const table = tableOf(leases);
  const addresses = Int32Array.from(scattered(LOOKUPS, leases), (index) => subnet(index + 1).address + 7);
  return {
    name: `lookup, ${leases.toLocaleString('en')} leases`,
    unitsPerCall: LOOKUPS,
    run() {
      let sum = 0;
      for (let index = 0; index < LOOKUPS; index++) sum += table.lookup(addresses[index]);
      sink.value = sum;
    },
  };
}

interface BatchMemory {
  readonly arena: Buffer;
  readonly descriptors: Int32Array;
  /** Puts back what the walk changed. */
  readonly reset: () => void;
}

/** A full batch of UDP packets from one pod, each to or from another of `peers` nodes. */
function batchOf(peers: number, incoming: boolean): BatchMemory {
  const arena = Buffer.alloc(BATCH_PACKETS * PACKET_PLACE_BYTES);
  const descriptors = new Int32Array(BATCH_PACKETS * DESCRIPTOR_WORDS);
  const totalBytes = 20 + PAYLOAD_BYTES;
  for (let packet = 0; packet < BATCH_PACKETS; packet++) {
    const offset = packet * PACKET_PLACE_BYTES + 128;
    const peer = packet % peers;
    const there = subnet(peer + 1).address + 7;
    const here = OWN.address + 6;
    writeIpv4Header(arena, offset, {
      totalBytes,
      ttl: 63,
      protocol: PROTOCOL_UDP,
      source: incoming ? there : here,
      destination: incoming ? here : there,
    });
    const at = packet * DESCRIPTOR_WORDS;
    descriptors[at + OFFSET] = offset;
    descriptors[at + LENGTH] = totalBytes;
    descriptors[at + ADDRESS] = FIRST_PEER + peer;
    descriptors[at + PORT] = PORT_NUMBER;
    descriptors[at + SEGMENTS] = 1;
    descriptors[at + SENT_PACKETS] = 1;
    descriptors[at + SENT_BYTES] = totalBytes;
  }
  const headers = Buffer.from(arena);
  const senders = descriptors.slice();
  return {
    arena,
    descriptors,
    reset: () => {
      descriptors.set(senders);
      for (let packet = 0; packet < BATCH_PACKETS; packet++) {
        const offset = packet * PACKET_PLACE_BYTES + 128;
        arena[offset + 8] = headers[offset + 8];
        arena[offset + 10] = headers[offset + 10];
        arena[offset + 11] = headers[offset + 11];
      }
    },
  };
}

function workerParts() {
  return {
    counters: new WorkerCounters(new SharedArrayBuffer(COUNTERS_BYTES)),
    slowPath: new SlowPathWriter(new SharedArrayBuffer(SLOW_PATH_BYTES), () => undefined),
    lastDrops: { note: () => undefined },
  };
}

/** All that TypeScript does for an outgoing packet. */
export function encapWalk(peers: number): Subject {
  const { arena, descriptors, reset } = batchOf(peers, false);
  const encapsulator = new Encapsulator({
    table: tableOf(peers),
    arena,
    descriptors,
    cut: () => 0,
    ...workerParts(),
  });
  return {
    name: `encapsulate, ${peers} ${peers === 1 ? 'peer' : 'peers'}`,
    unitsPerCall: BATCH_PACKETS,
    run() {
      reset();
      encapsulator.walk(BATCH_PACKETS);
      encapsulator.settle(BATCH_PACKETS);
    },
  };
}

/** All that TypeScript does for an incoming packet, with the strict source check. */
export function decapWalk(peers: number): Subject {
  const { arena, descriptors, reset } = batchOf(peers, true);
  const decapsulator = new Decapsulator({
    table: tableOf(peers),
    sourceCheck: 'strict',
    arena,
    descriptors,
    ...workerParts(),
  });
  return {
    name: `decapsulate, strict, ${peers} ${peers === 1 ? 'peer' : 'peers'}`,
    unitsPerCall: BATCH_PACKETS,
    run() {
      reset();
      decapsulator.walk(BATCH_PACKETS);
      decapsulator.settle(BATCH_PACKETS);
    },
  };
}

/** What looking costs a worker: the tap's two steps beside a full batch, nobody watching, or a sample being taken. */
export function tapBatch(every: number): Subject {
  const { arena, descriptors } = batchOf(1, true);
  const shared = new SharedArrayBuffer(TAP_BYTES);
  const tap = new TapWriter({ shared, direction: 'decap', arena, descriptors });
  const reader = new TapReader(shared);
  if (every > 0) {
    reader.demand({ everyPassed: every, everyDropped: every, keptBytes: 256, wirePackets: false });
  }
  return {
    name:
      every === 0 ? 'a batch, nobody watches' : `a batch of ${BATCH_PACKETS}, traced 1/${every.toLocaleString('en')}`,
    unitsPerCall: LOOKUPS,
    run() {
      for (let batch = 0; batch < LOOKUPS; batch++) {
        tap.observe(BATCH_PACKETS);
        tap.conclude();
      }
      reader.discard();
    },
  };
}

/** What a packet is, whether all of it is there, and what lies behind its end: the first step of either walk. */
export function classification(): Subject {
  const { arena, descriptors } = batchOf(1, false);
  return {
    name: 'classify: version, header and total length',
    unitsPerCall: BATCH_PACKETS,
    run() {
      let sum = 0;
      for (let packet = 0; packet < BATCH_PACKETS; packet++) {
        sum += examine(arena, descriptors, packet * DESCRIPTOR_WORDS);
      }
      sink.value = sum;
    },
  };
}

/** The header edit alone: TTL and checksum (RFC 1624). */
export function headerEdit(): Subject {
  const { arena } = batchOf(1, false);
  return {
    name: 'decrement TTL, update checksum',
    unitsPerCall: BATCH_PACKETS,
    run() {
      for (let packet = 0; packet < BATCH_PACKETS; packet++) decrementTtl(arena, packet * PACKET_PLACE_BYTES + 128);
    },
  };
}

/** A checksum over a whole packet in TypeScript, as the slow path does; the hot path leaves this to native code. */
export function fullChecksum(): Subject {
  const { arena } = batchOf(1, false);
  return {
    name: `checksum of ${PAYLOAD_BYTES} bytes in TypeScript`,
    unitsPerCall: 1,
    run() {
      sink.value = checksum(arena, 128, PAYLOAD_BYTES);
    },
  };
}
