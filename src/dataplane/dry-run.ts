/**
 * What the workers would do with a packet: their own code decides, over the live table, about a packet in an arena of
 * its own; nothing is counted or sent.
 */
import { COUNTERS_BYTES, WorkerCounters } from './counters.js';
import { Decapsulator, type SourceCheck } from './decap.js';
import { ADDRESS, DESCRIPTOR_WORDS, FORWARD, LENGTH, OFFSET, PORT, SEGMENTS, VERDICT } from './descriptors.js';
import type { DropReason } from './drop-reasons.js';
import { Encapsulator } from './encap.js';
import type { ForwardingTableReader } from './forwarding-table-reader.js';
import { SLOW_PATH_BYTES, SlowPathWriter } from './slow-path.js';

/** A verdict as a worker would have it before the kernel is asked to send. */
export type DryVerdict =
  | { readonly verdict: 'forwarded'; readonly nextHop: { readonly address: number; readonly port: number } }
  | { readonly verdict: 'delivered' }
  | { readonly verdict: 'dropped'; readonly reason: DropReason };

/** None of them is used: counting, cutting and handing over come after a verdict. */
const counters = new WorkerCounters(new SharedArrayBuffer(COUNTERS_BYTES));
const slowPath = new SlowPathWriter(new SharedArrayBuffer(SLOW_PATH_BYTES), () => undefined);
const cut = (): number => 0;
const lastDrops = { note: () => undefined };

/** The verdict about a packet that comes out of the overlay device. */
export function dryRunEncap(table: ForwardingTableReader, packet: Buffer): DryVerdict {
  const { arena, descriptors } = onePacket(packet, 0);
  new Encapsulator({ table, arena, descriptors, counters, slowPath, lastDrops, cut }).walk(1);
  if (descriptors[VERDICT] !== FORWARD) return { verdict: 'dropped', reason: descriptors[VERDICT] as DropReason };
  return { verdict: 'forwarded', nextHop: { address: descriptors[ADDRESS] >>> 0, port: descriptors[PORT] } };
}

/** The verdict about a packet that arrives in a datagram from `sender`. */
export function dryRunDecap(
  table: ForwardingTableReader,
  sourceCheck: SourceCheck,
  sender: number,
  packet: Buffer,
): DryVerdict {
  const { arena, descriptors } = onePacket(packet, sender);
  new Decapsulator({ table, sourceCheck, arena, descriptors, counters, slowPath, lastDrops }).walk(1);
  if (descriptors[VERDICT] !== FORWARD) return { verdict: 'dropped', reason: descriptors[VERDICT] as DropReason };
  return { verdict: 'delivered' };
}

function onePacket(packet: Buffer, address: number): { arena: Buffer; descriptors: Int32Array } {
  const descriptors = new Int32Array(DESCRIPTOR_WORDS);
  descriptors[OFFSET] = 0;
  descriptors[LENGTH] = packet.length;
  descriptors[ADDRESS] = address;
  descriptors[SEGMENTS] = 1;
  return { arena: Buffer.from(packet), descriptors };
}
