/**
 * A packet worker: a thread that carries packets in one direction and does nothing else. It sleeps in the kernel when
 * there is nothing to do, and never waits for etcd, a disk, a log or the main thread. One round handles one batch.
 */
import { parentPort } from 'node:worker_threads';
import { WorkerCounters } from './counters.js';
import { Decapsulator, type SourceCheck } from './decap.js';
import {
  DECAP_ARENA_BYTES,
  DECAP_BATCH_PACKETS,
  DESCRIPTOR_WORDS,
  ENCAP_ARENA_BYTES,
  ENCAP_BATCH_PACKETS,
  MAX_PACKET_BYTES,
} from './descriptors.js';
import { Encapsulator } from './encap.js';
import type { CutPacket } from './cut-packet.js';
import { ForwardingTableReader } from './forwarding-table-reader.js';
import { DecapBatch, deviceDeleted, EncapBatch, pause, type PacketBatch } from './native.js';
import { LastDropsWriter } from './last-drops.js';
import type { PacketWalker, PacketWalkerOptions } from './packet-walker.js';
import { SlowPathWriter } from './slow-path.js';
import { TapWriter } from './tap.js';
import { Order, WorkerControl, WorkerMessage, WorkerState } from './worker-control.js';

/** A worker's task, the only message that it is sent: see `worker-thread.ts`. */
export interface WorkerData {
  readonly direction: 'encap' | 'decap';
  /** Its index in the table, for quiescent points. */
  readonly index: number;
  readonly sourceCheck: SourceCheck;
  readonly table: SharedArrayBuffer;
  readonly counters: SharedArrayBuffer;
  readonly slowPath: SharedArrayBuffer;
  readonly tap: SharedArrayBuffer;
  readonly lastDrops: SharedArrayBuffer;
  readonly control: SharedArrayBuffer;
  readonly tunFd: number;
  readonly socketFd: number;
  readonly wakeupFd: number;
}

/** One direction of a worker: what it does with a batch. */
interface Lane {
  readonly batch: PacketBatch;
  /** What decides between receive and transmit, and counts after it. */
  readonly walker: PacketWalker;
  readonly tap: TapWriter;
  readonly lastDrops: LastDropsWriter;
}

const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 1000;

parentPort?.once('message', run);

function run(data: WorkerData): void {
  const control = new WorkerControl(data.control);
  const table = new ForwardingTableReader(data.table);
  const counters = new WorkerCounters(data.counters);
  const slowPath = new SlowPathWriter(data.slowPath, () => parentPort?.postMessage(WorkerMessage.SlowPath));
  const makeLane = data.direction === 'encap' ? encapLane : decapLane;
  const enter = (state: WorkerState): void => {
    control.enter(state);
    parentPort?.postMessage(WorkerMessage.StateChanged);
  };
  // While another agent has the descriptors, nobody has tried yet what they can do.
  if (control.order === Order.Park) {
    enter(WorkerState.Parked);
    control.sleepWhileParked();
  }
  const { batch, walker, tap, lastDrops } = makeLane(data, control.offloads, { table, counters, slowPath });

  let pauseMs = FIRST_PAUSE_MS;
  enter(WorkerState.Running);
  for (;;) {
    // Offline until a batch is there, which may take long: no result of a lookup is held from one batch to the next.
    table.offline(data.index);
    // Packets in hand would be lost with this process, or be overtaken by those that the next one reads.
    const order = control.order !== Order.Run && batch.holdsPackets ? Order.Run : control.order;
    if (order === Order.Stop) break;
    if (order === Order.Park) {
      enter(WorkerState.Parked);
      control.sleepWhileParked();
      enter(WorkerState.Running);
      continue;
    }
    const received = batch.receive();
    if (received > 0) {
      table.online(data.index);
      walker.walk(received);
      tap.observe(received);
      const stepsDown = batch.transmit(received);
      tap.conclude();
      walker.settle(received);
      lastDrops.flush();
      counters.flush();
      for (let step = 0; step < stepsDown; step++) parentPort?.postMessage(batch.takeStepDown());
      pauseMs = FIRST_PAUSE_MS;
    } else if (received < 0) {
      if (deviceDeleted(received)) return enter(WorkerState.DeviceDeleted);
      counters.receiveError();
      counters.flush();
      pause(data.wakeupFd, pauseMs);
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
  }
  enter(WorkerState.Stopped);
}

type Parts = Pick<PacketWalkerOptions, 'table' | 'counters' | 'slowPath'>;

function encapLane(data: WorkerData, offloads: number, parts: Parts): Lane {
  const { tunFd, socketFd, wakeupFd } = data;
  const arena = Buffer.allocUnsafeSlow(ENCAP_ARENA_BYTES);
  const descriptors = new Int32Array(ENCAP_BATCH_PACKETS * DESCRIPTOR_WORDS);
  const batch = new EncapBatch({ arena, descriptors, tunFd, socketFd, wakeupFd, offloads });
  const cut: CutPacket = (descriptor, segment, keptBytes) => batch.cut(descriptor, segment, keptBytes);
  const cutOffset = arena.length - MAX_PACKET_BYTES;
  const packets = { direction: 'encap', arena, descriptors, cut, cutOffset } as const;
  const tap = new TapWriter({ shared: data.tap, ...packets });
  const lastDrops = new LastDropsWriter({ shared: data.lastDrops, ...packets });
  return { batch, walker: new Encapsulator({ ...parts, arena, descriptors, lastDrops, cut }), tap, lastDrops };
}

function decapLane(data: WorkerData, offloads: number, parts: Parts): Lane {
  const { tunFd, socketFd, wakeupFd, sourceCheck } = data;
  const arena = Buffer.allocUnsafeSlow(DECAP_ARENA_BYTES);
  const descriptors = new Int32Array(DECAP_BATCH_PACKETS * DESCRIPTOR_WORDS);
  const batch = new DecapBatch({ arena, descriptors, tunFd, socketFd, wakeupFd, offloads });
  const packets = { direction: 'decap', arena, descriptors } as const;
  const tap = new TapWriter({ shared: data.tap, ...packets });
  const lastDrops = new LastDropsWriter({ shared: data.lastDrops, ...packets });
  return { batch, walker: new Decapsulator({ ...parts, arena, descriptors, lastDrops, sourceCheck }), tap, lastDrops };
}
