/**
 * A packet worker: a thread that carries packets in one direction and does nothing else. It sleeps in the kernel when
 * there is nothing to do, and never waits for etcd, a disk, a log or the main thread. One round handles one batch.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { FlannelError } from '../errors.js';
import { WorkerCounters } from './counters.js';
import { Decapsulator, type SourceCheck } from './decap.js';
import { BATCH_PACKETS, DECAP_ARENA_BYTES, DESCRIPTOR_WORDS, ENCAP_ARENA_BYTES } from './descriptors.js';
import { Encapsulator } from './encap.js';
import { ForwardingTableReader } from './forwarding-table-reader.js';
import { PacketBatch } from './native.js';
import { SlowPathWriter } from './slow-path.js';
import { Order, WorkerControl, WorkerMessage, WorkerState } from './worker-control.js';

/** What a worker is started with. */
export interface WorkerData {
  readonly direction: 'encap' | 'decap';
  /** Its index in the table, for quiescent points. */
  readonly index: number;
  readonly sourceCheck: SourceCheck;
  readonly table: SharedArrayBuffer;
  readonly counters: SharedArrayBuffer;
  readonly slowPath: SharedArrayBuffer;
  readonly control: SharedArrayBuffer;
  readonly tunFd: number;
  readonly socketFd: number;
  readonly wakeupFd: number;
}

/** One direction of a worker: the steps of a round. */
interface Lane {
  /** How many packets came, 0 when woken, or a negated errno value. */
  receive(): number;
  /** Decides, sends and counts. */
  carry(count: number): void;
}

const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 1000;

run(workerData as WorkerData);

function run(data: WorkerData): void {
  const control = new WorkerControl(data.control);
  const table = new ForwardingTableReader(data.table);
  const counters = new WorkerCounters(data.counters);
  const slowPath = new SlowPathWriter(data.slowPath, () => parentPort?.postMessage(WorkerMessage.SlowPath));
  const arena = Buffer.allocUnsafeSlow(data.direction === 'encap' ? ENCAP_ARENA_BYTES : DECAP_ARENA_BYTES);
  const descriptors = new Int32Array(BATCH_PACKETS * DESCRIPTOR_WORDS);
  const { tunFd, socketFd, wakeupFd, sourceCheck } = data;
  const batch = new PacketBatch({ arena, descriptors, tunFd, socketFd, wakeupFd });
  const parts = { table, arena, descriptors, counters, slowPath };
  const lane =
    data.direction === 'encap'
      ? encapLane(batch, new Encapsulator(parts))
      : decapLane(batch, new Decapsulator({ ...parts, sourceCheck }));

  let pauseMs = FIRST_PAUSE_MS;
  const enter = (state: WorkerState): void => {
    control.enter(state);
    parentPort?.postMessage(WorkerMessage.StateChanged);
  };
  enter(WorkerState.Running);
  for (;;) {
    // Offline until a batch is there, which may take long: no result of a lookup is held from one batch to the next.
    table.offline(data.index);
    const order = control.order;
    if (order === Order.Stop) break;
    if (order === Order.Park) {
      enter(WorkerState.Parked);
      control.sleepWhileParked();
      enter(WorkerState.Running);
      continue;
    }
    const received = lane.receive();
    if (received > 0) {
      table.online(data.index);
      lane.carry(received);
      counters.flush();
      pauseMs = FIRST_PAUSE_MS;
    } else if (received < 0) {
      if (batch.deviceDeleted(received)) throw new FlannelError('HOST', 'the overlay device was deleted');
      counters.receiveError();
      counters.flush();
      batch.pause(pauseMs);
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
  }
  enter(WorkerState.Stopped);
}

function encapLane(batch: PacketBatch, encapsulator: Encapsulator): Lane {
  return {
    receive: () => batch.encapReceive(),
    carry(count) {
      encapsulator.walk(count);
      batch.encapTransmit(count);
      encapsulator.settle(count);
    },
  };
}

function decapLane(batch: PacketBatch, decapsulator: Decapsulator): Lane {
  return {
    receive: () => batch.decapReceive(),
    carry(count) {
      decapsulator.walk(count);
      batch.decapTransmit(count);
      decapsulator.settle(count);
    },
  };
}
